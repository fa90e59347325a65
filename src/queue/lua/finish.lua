-- finish.lua: ends the deliveries of one stream, each with all its consequences, in one atomic step.
--
-- KEYS  1 the stream · 2 begun · 3 completions · 4 delayed · 5 delayed:jobs · 6 due of this lane · 7 jobs of this lane ·
--       8 dead · 9 stats · then keys that extras refer to by position (reply lists, batch counters)
-- ARGV  1 deliveries · then 7 each: entry id · operation · mark ('' or the origin, to be taken off begun) · four more:
--         c  complete: type · status · event · the job's id, or, where there is more to do, a JSON object (an id never
--            begins with a brace): {id, reply, reply_s, batch, batch_s, dead: {job, error, at, replayable},
--            next: {job, parent, generation}}; reply and batch are positions in KEYS, the _s their lives in s
--         p  park: origin · due in ms · state, newline, job · ''
--         q  back into the lane: '' · state · job · ''
--         x  drop (a duplicate): four times ''
-- Returns  a number a delivery: 1 done by this run, 0 not ours any more (done before, by us or by a successor).
-- Guarantees  A delivery's consequences happen exactly once, whoever asks and however often: only who takes the entry off
--         the pending list or, where the group was lost, off the stream, acts. Safe to repeat after a lost reply.
--         O(deliveries); deliveries <= 256.

local n = tonumber(ARGV[1])
local WIDTH = 7
local ids = {}
for i = 1, n do
  ids[i] = ARGV[2 + (i - 1) * WIDTH]
end

local ours, gone = {}, {}
local acked = redis.call('XACK', KEYS[1], 'workers', unpack(ids))
for i = 1, n do
  -- All acknowledged at once is the common case. Else the entry itself tells: whoever finishes removes it.
  ours[i] = acked == n or #redis.call('XRANGE', KEYS[1], ids[i], ids[i]) == 1
  if ours[i] then
    gone[#gone + 1] = ids[i]
  end
end
if #gone == 0 then
  for i = 1, n do
    ours[i] = 0
  end
  return ours
end
redis.call('XDEL', KEYS[1], unpack(gone))

local marks, counts = {}, {}

local function complete(id, kind, status, event, extras)
  redis.call('XADD', KEYS[3], '*', 'id', id, 'type', kind, 'status', status, 'event', event)
  local name = kind .. ':' .. status
  counts[name] = (counts[name] or 0) + 1
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
      'replayable', dead.replayable)
  end
  if extras.next then
    local child = extras.next
    redis.call('XADD', KEYS[7], '*', 'job', child.job, 'parent', child.parent, 'generation', child.generation)
  end
end

local NOTHING = {}
for i = 1, n do
  if ours[i] then
    local at = 2 + (i - 1) * WIDTH
    local op, mark, a, b, c = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    if mark ~= '' then
      marks[#marks + 1] = mark
    end
    if op == 'c' then
      local id, extras = ARGV[at + 6], NOTHING
      if string.byte(id) == 123 then
        extras = cjson.decode(id)
        id = extras.id
      end
      complete(id, a, b, c, extras)
    elseif op == 'p' then
      redis.call('ZADD', KEYS[4], b, a)
      redis.call('HSET', KEYS[5], a, c)
    elseif op == 'q' then
      redis.call('XADD', KEYS[6], '*', 'job', c, 'state', b)
    end
    ours[i] = 1
  else
    ours[i] = 0
  end
end

if #marks > 0 then
  redis.call('HDEL', KEYS[2], unpack(marks))
end
for name, count in pairs(counts) do
  redis.call('HINCRBY', KEYS[9], name, count)
end
return ours
