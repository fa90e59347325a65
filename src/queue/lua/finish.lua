-- finish.lua: ends the deliveries of one stream, each with all its consequences, in one atomic step.
--
-- KEYS  1 the stream · 2 begun · 3 completions · 4 delayed · 5 delayed:jobs · 6 due of this lane · 7 jobs of this lane ·
--       8 dead · 9 stats · then keys that are referred to by position (reply lists, batch
--       counters, queues)
-- ARGV  1 deliveries · then their entry ids · then for each: operation · mark ('' or the origin, to be taken off begun; with a
--       newline and a mark of admit.lua's behind it only if it is that one) · and, by operation, more:
--         p  park: origin · due in ms · state, newline, job
--         w  park in a shared bucket's queue: the same · the queue's position in KEYS · the job's age there; it is due then
--            at the latest
--         q  back into the lane: state · job
--         x  drop (a duplicate): nothing
--         anything else is `type:status`, and completes the job: event · the job's id, or, where there is more to do, a JSON
--            object (an id never begins with a brace): {id, reply, reply_s, batch, batch_s, dead: {job, error, at,
--            replayable, state}, next: {job, parent, generation}}; reply and batch are positions in KEYS, the _s their lives in s
-- Returns  the numbers (from 1) of the deliveries that were not ours any more: ended before, by us or by a successor. All
--         others were ended by this run.
-- Guarantees  A delivery's consequences happen exactly once, whoever asks and however often: only who takes the entry off
--         the pending list or, where the group was lost, off the stream, acts. Safe to repeat after a lost reply.
--         Done by a full Redis too (OOM): it refuses a script whose first write may grow, and this one's cannot.
--         O(deliveries); deliveries <= 256.

local n = tonumber(ARGV[1])
local not_ours = {}
local ours
local acked = redis.call('XACK', KEYS[1], 'workers', unpack(ARGV, 2, n + 1))
if acked == n then
  redis.call('XDEL', KEYS[1], unpack(ARGV, 2, n + 1))
else
  -- Not all acknowledged at once. Then the entry itself tells: whoever finishes removes it.
  ours = {}
  local gone = {}
  for i = 1, n do
    local id = ARGV[1 + i]
    if #redis.call('XRANGE', KEYS[1], id, id) == 1 then
      ours[i] = true
      gone[#gone + 1] = id
    else
      not_ours[#not_ours + 1] = i
    end
  end
  if #gone == 0 then
    return not_ours
  end
  redis.call('XDEL', KEYS[1], unpack(gone))
end

local marks, counts, kinds, statuses = {}, {}, {}, {}
-- What is parked, written at once: due times and origins, origins and jobs.
local due, parked = {}, {}

local function park(origin, due_ms, job)
  due[#due + 1] = due_ms
  due[#due + 1] = origin
  parked[#parked + 1] = origin
  parked[#parked + 1] = job
end

-- Everything that a completion may bring with it.
local function consequences(id, kind, status, event, extras)
  if extras.reply then
    redis.call('RPUSH', KEYS[extras.reply], event)
    redis.call('EXPIRE', KEYS[extras.reply], extras.reply_s)
  end
  if extras.batch then
    redis.call('HINCRBY', KEYS[extras.batch], status, 1)
    redis.call('EXPIRE', KEYS[extras.batch], extras.batch_s)
  end
  if extras.dead then
    local dead = extras.dead
    redis.call('XADD', KEYS[8], '*', 'id', id, 'type', kind, 'job', dead.job, 'error', dead.error, 'at', dead.at,
      'replayable', dead.replayable, 'state', dead.state)
  end
  if extras.next then
    local child = extras.next
    redis.call('XADD', KEYS[7], '*', 'job', child.job, 'parent', child.parent, 'generation', child.generation)
  end
end

local function complete(name, event, tail)
  local kind, status = kinds[name], statuses[name]
  if not kind then
    kind, status = string.match(name, '^(.*):(.*)$')
    kinds[name], statuses[name] = kind, status
  end
  local id, extras = tail, nil
  if string.byte(tail) == 123 then
    extras = cjson.decode(tail)
    id = extras.id
  end
  redis.call('XADD', KEYS[3], '*', 'id', id, 'type', kind, 'status', status, 'event', event)
  counts[name] = (counts[name] or 0) + 1
  if extras then
    consequences(id, kind, status, event, extras)
  end
end

-- The origin whose mark is to go, if it is.
local function to_unmark(mark)
  local origin, wanted = string.match(mark, '^(.*)\n(.*)$')
  if not origin then
    return mark
  end
  local found = redis.call('HGET', KEYS[2], origin)
  if found and string.sub(found, 1, #wanted + 1) == wanted .. '/' then
    return origin
  end
end

local at = n + 2
for i = 1, n do
  local op, mark = ARGV[at], ARGV[at + 1]
  local a, b, c = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local mine = not ours or ours[i]
  if mine and mark ~= '' then
    marks[#marks + 1] = to_unmark(mark)
  end
  if op == 'p' then
    if mine then
      park(a, b, c)
    end
    at = at + 5
  elseif op == 'w' then
    if mine then
      park(a, b, c)
      redis.call('ZADD', KEYS[tonumber(ARGV[at + 5])], ARGV[at + 6], a)
    end
    at = at + 7
  elseif op == 'q' then
    if mine then
      redis.call('XADD', KEYS[6], '*', 'job', b, 'state', a)
    end
    at = at + 4
  elseif op == 'x' then
    at = at + 2
  else
    if mine then
      complete(op, a, b)
    end
    at = at + 4
  end
end

if #due > 0 then
  redis.call('ZADD', KEYS[4], unpack(due))
  redis.call('HSET', KEYS[5], unpack(parked))
end
if #marks > 0 then
  redis.call('HDEL', KEYS[2], unpack(marks))
end
for name, count in pairs(counts) do
  redis.call('HINCRBY', KEYS[9], name, count)
end
return not_ours
