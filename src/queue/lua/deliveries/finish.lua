-- finish.lua: ends the deliveries of one stream, each with all its consequences or none. (Needs atomic.lua and
-- index.lua before it.)
--
-- KEYS  1 the stream · 2 begun · 3 completions · 4 delayed · 5 delayed:jobs · 6 due of this lane · 7 jobs of this lane
--       · 8 dead · 9 stats · 10 the index of ids · then keys that ARGV names by position (reply lists, batch counters, queues)
-- ARGV  1 number of deliveries · 2 consumer · then their entry ids · then for each delivery: operation · call marker to
--       remove · and more values by operation:
--           p  delay: origin · due in ms · state, newline, job
--           w  delay in a shared bucket's queue: as for p · position of the queue in KEYS · the job's age there. The
--              due time is the latest time to leave the queue.
--           q  back into the lane: state · job
--           x  drop (a duplicate): nothing
--           y  drop a duplicate that asks for a reply: id · holder · position of the reply list in KEYS · its life in s.
--              If the job that has the id has ended, and its completion is kept, the completion is pushed again.
--           type:status (anything else)  complete the job: event · tail · its holder in the index ('' if it reserved no
--              id). The tail is the job's id or, if there is more to do, a JSON
--              object (an id never begins with a brace): {id, reply, reply_s, batch, batch_s, dead: {job, error, at,
--              replayable, state}, next: {job, parent, generation}}; reply and batch are positions in KEYS, reply_s and
--              batch_s their lives in s
--         and at the end: when the first and the last of the completed jobs were enqueued, in ms · dedupe window in ms · width
--         of a slice of the index in ms
--         The call marker to remove is '' (none), or the origin: any marker of the job. `origin, newline, marker`
--         removes only the delivery's own marker. `origin, newline, !, marker` removes any marker of the job, and names
--         the delivery's own.
-- Returns  {not ours, failed, courtesies}. Not ours: numbers (from 1) of deliveries that had already ended, by this
--          worker or a successor. Failed: number, reason, number, reason …: nothing was done for these, and they are
--          still pending for the consumer. Courtesies: reasons why a reply, a counter, an expiry or a
--          place in the index was not written. A
--          reply that cannot get an expiry is removed. All other deliveries were ended by this call.
-- Guarantees  The consequences of a delivery (completion, `next`, dead letter, place among the delayed jobs, call
--             marker, removal) all happen or none does, whichever command fails. They happen exactly once, for any
--             number of calls by any worker: only the call that takes the entry off the pending list acts (if the group
--             was lost: the entry off the stream, or the delivery's own marker off begun). A failure of one job affects
--             no other. Safe to repeat after a lost reply. A full Redis (OOM) accepts this script too: it refuses a
--             script whose first write may grow, and this one's cannot. O(deliveries); deliveries <= 256.

local n, consumer = tonumber(ARGV[1]), ARGV[2]
local not_ours, failed, courtesies = {}, {}, {}

-- Splits a marker from ARGV into the origin, '!' if any marker is removed, and the delivery's own marker.
local function parts(mark)
  return string.match(mark, '^([^\n]*)\n(!?)(.*)$')
end

-- Whether a value found in begun is this marker, set by any attempt.
local function is_mark(found, own)
  return type(found) == 'string' and string.sub(found, 1, #own + 1) == own .. '/'
end

-- The command that removes appended entries must be permitted before anything is done.
redis.call('XDEL', KEYS[1], '0-0')

local acked = redis.call('XACK', KEYS[1], 'workers', unpack(ARGV, 3, n + 2))
local ours
if acked ~= n then
  -- Not all deliveries were acknowledged by this call. Then the entry decides, because the call that ends a delivery
  -- removes its entry. (For a single delivery the acknowledgement decides: another program may have trimmed its entry.)
  -- If the whole stream is gone, the delivery's own call marker decides, because the call that ends the delivery
  -- removes it. (A marker of another delivery proves nothing: the job may have come back since.)
  local widths, place = {p = 5, w = 7, q = 4, x = 2, y = 6}, n + 3
  local function is_marked(mark)
    local origin, _, own = parts(mark)
    return origin and is_mark(redis.pcall('HGET', KEYS[2], origin), own)
  end
  ours = {}
  for i = 1, n do
    local id, mark = ARGV[2 + i], ARGV[place + 1]
    if #redis.call('XRANGE', KEYS[1], id, id) == 1 or is_marked(mark) then
      ours[i] = true
    else
      not_ours[#not_ours + 1] = i
    end
    place = place + (widths[ARGV[place]] or 5)
  end
end

-- Reasons of failed deliveries, by number, and the length of the undo log before and after each delivery's writes.
local why, from, to = {}, {}, {}
-- For completed deliveries: the entry in completions, and the `type:status` of the completion.
local appended, names = {}, {}
local kinds, statuses, extras_of = {}, {}, {}
-- For completed deliveries that reserved an id: the id and the holder. For duplicates that ask for a reply: what is
-- needed to answer.
local reserved, holders, unanswered = {}, {}, {}
local pcall_redis = redis.pcall
local completions = KEYS[3]

-- Most completions need one command only, so a failure leaves nothing to undo.
local function complete_plainly(i, name, id, event)
  local kind = kinds[name]
  if not kind then
    kind, statuses[name] = string.match(name, '^(.*):(.*)$')
    kinds[name] = kind
  end
  local entry = pcall_redis('XADD', completions, '*', 'id', id, 'type', kind, 'status', statuses[name], 'event', event)
  if type(entry) == 'table' then
    return 'XADD ' .. completions .. ': ' .. entry.err
  end
  appended[i], names[i] = entry, name
end

local function complete(i, name, event, extras)
  local id, dead, child = extras.id, extras.dead, extras.next
  local failed_plainly = complete_plainly(i, name, id, event)
  if failed_plainly then
    error(failed_plainly, 0)
  end
  if dead then
    append(KEYS[8], 'id', id, 'type', kinds[name], 'job', dead.job, 'error', dead.error, 'at', dead.at, 'replayable',
      dead.replayable, 'state', dead.state)
  end
  if child then
    append(KEYS[7], 'job', child.job, 'parent', child.parent, 'generation', child.generation)
  end
end

-- The body is written first, because a body without a due time has no effect.
local function park(_, origin, due_ms, job, queue, age)
  write({'HDEL', KEYS[5], origin}, 'HSET', KEYS[5], origin, job)
  write({'ZREM', KEYS[4], origin}, 'ZADD', KEYS[4], due_ms, origin)
  if queue then
    write({'ZREM', KEYS[queue], origin}, 'ZADD', KEYS[queue], age, origin)
  end
end

local function put_back(_, state, job)
  append(KEYS[6], 'job', job, 'state', state)
end

-- Removes a delivery's completion, if there is one.
local function uncomplete(i)
  if appended[i] then
    pcall_redis('XDEL', completions, appended[i])
    appended[i], names[i] = nil, nil
  end
end

-- Runs the writes of one delivery, if it has more than one.
local function attempt(change, i, ...)
  from[i] = #undo
  why[i] = all_or_nothing(change, i, ...)
  if why[i] then
    uncomplete(i)
  end
  to[i] = #undo
end

-- Undoes the writes of one delivery that had succeeded.
local function fail(i, reason)
  why[i] = reason
  uncomplete(i)
  for k = to[i] or 0, (from[i] or 0) + 1, -1 do
    redis.pcall(unpack(undo[k]))
    undo[k] = {'HDEL', KEYS[2], ''}
  end
end

-- First come the writes that can be undone. All plain delays of a batch are written together: due times and origins,
-- origins and jobs.
local events, marks = {}, {}
local due, bodies, parked = {}, {}, {}
local at = n + 3
for i = 1, n do
  local op, mark = ARGV[at], ARGV[at + 1]
  local a, b = ARGV[at + 2], ARGV[at + 3]
  local mine = not ours or ours[i]
  if mine and mark ~= '' then
    marks[i] = mark
  end
  if #op > 1 then
    local holder = ARGV[at + 4]
    if mine and byte(b) ~= 123 then
      reserved[i] = b
      why[i] = complete_plainly(i, op, b, a)
    elseif mine then
      extras_of[i], events[i] = cjson.decode(b), a
      reserved[i] = extras_of[i].id
      attempt(complete, i, op, a, extras_of[i])
    end
    if holder ~= '' then
      holders[i] = holder
    end
    at = at + 5
  elseif op == 'p' then
    if mine then
      local c = ARGV[at + 4]
      due[#due + 1], due[#due + 2] = b, a
      bodies[#bodies + 1], bodies[#bodies + 2] = a, c
      parked[#parked + 1] = i
    end
    at = at + 5
  elseif op == 'w' then
    if mine then
      attempt(park, i, a, b, ARGV[at + 4], tonumber(ARGV[at + 5]), ARGV[at + 6])
    end
    at = at + 7
  elseif op == 'q' then
    if mine then
      attempt(put_back, i, a, b)
    end
    at = at + 4
  elseif op == 'y' then
    if mine then
      unanswered[i] = {id = a, holder = b, reply = tonumber(ARGV[at + 4]), reply_s = ARGV[at + 5]}
    end
    at = at + 6
  else
    at = at + 2
  end
end

local function park_all()
  write(nil, 'HSET', KEYS[5], unpack(bodies))
  write(nil, 'ZADD', KEYS[4], unpack(due))
  for k, i in ipairs(parked) do
    from[i] = #undo
    undo[#undo + 1] = {'HDEL', KEYS[5], bodies[2 * k - 1]}
    undo[#undo + 1] = {'ZREM', KEYS[4], bodies[2 * k - 1]}
    to[i] = #undo
  end
end

if #parked > 0 and all_or_nothing(park_all) then
  -- One job may be the cause, so each is tried alone.
  for k, i in ipairs(parked) do
    attempt(park, i, bodies[2 * k - 1], due[2 * k - 1], bodies[2 * k])
  end
end

-- Returns the origin whose marker must be removed, or nothing.
local function to_unmark(mark)
  local origin, any, own = parts(mark)
  if not origin or any == '!' then
    return origin or mark
  end
  if is_mark(redis.call('HGET', KEYS[2], origin), own) then
    return origin
  end
end

local function unmark()
  local origins, restore = {}, {'HSET', KEYS[2]}
  for i = 1, n do
    if marks[i] and not why[i] then
      origins[#origins + 1] = to_unmark(marks[i])
    end
  end
  if #origins == 0 then
    return
  end
  for k, value in ipairs(redis.call('HMGET', KEYS[2], unpack(origins))) do
    if value then
      restore[#restore + 1], restore[#restore + 2] = origins[k], value
    end
  end
  if #restore > 2 then
    write(restore, 'HDEL', KEYS[2], unpack(origins))
  end
end

local unmarked = next(marks) and all_or_nothing(unmark)
if unmarked then
  for i in pairs(marks) do
    if not why[i] then
      fail(i, unmarked)
    end
  end
end

-- Then come the removals of the deliveries, for all that remain or for none.
local function remove()
  if not ours and not next(why) then
    return write(nil, 'XDEL', KEYS[1], unpack(ARGV, 3, n + 2))
  end
  local gone = {}
  for i = 1, n do
    if (not ours or ours[i]) and not why[i] then
      gone[#gone + 1] = ARGV[2 + i]
    end
  end
  if #gone > 0 then
    write(nil, 'XDEL', KEYS[1], unpack(gone))
  end
end

local removed = all_or_nothing(remove)
if removed then
  take_back(0)
end
local left = {}
if removed or next(why) then
  for i = 1, n do
    local reason = why[i] or removed
    if reason and (not ours or ours[i]) then
      why[i] = reason
      uncomplete(i)
      failed[#failed + 1], failed[#failed + 2] = i, reason
      left[#left + 1] = ARGV[2 + i]
    end
  end
end
if #left > 0 then
  -- Back on the pending list. If this fails, find_adrift.lua finds them.
  for _, word in ipairs({'RETRYCOUNT', '1', 'FORCE', 'JUSTID'}) do
    left[#left + 1] = word
  end
  redis.pcall('XCLAIM', KEYS[1], 'workers', consumer, 0, unpack(left))
end

-- Last come the writes whose failure does not matter.
local function courteous(...)
  courtesies[#courtesies + 1] = courtesy(...)
end

-- Sets an expiry. Returns whether the key has one.
local function expire(key, life_s)
  local why = courtesy('EXPIRE', key, life_s)
  courtesies[#courtesies + 1] = why
  return not why or not courtesy('PEXPIRE', key, life_s * 1000)
end

local function reply_to(key, event, life_s)
  local pushed = redis.pcall('RPUSH', key, event)
  if is_error(pushed) then
    -- The key has another type, which the waiting request cannot use.
    courteous('DEL', key)
    courteous('RPUSH', key, event)
  end
  if not expire(key, life_s) then
    local left_ms = redis.pcall('PTTL', key)
    if type(left_ms) ~= 'number' or left_ms < 0 then
      -- Without an expiry it would stay for ever.
      courteous('DEL', key)
    end
  end
end

for i, extras in pairs(extras_of) do
  if not why[i] then
    if extras.reply then
      reply_to(KEYS[extras.reply], events[i], extras.reply_s)
    end
    if extras.batch then
      courteous('HINCRBY', KEYS[extras.batch], statuses[names[i]], 1)
      expire(KEYS[extras.batch], extras.batch_s)
    end
  end
end

-- The index: where jobs ended, and what is known of the first jobs of duplicates.
local window_ms, width_ms = tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)

-- The slice in which all completed jobs were enqueued, as is most common; nothing if there are several.
local function only_slice()
  local first_ms, last_ms = tonumber(ARGV[#ARGV - 3]), tonumber(ARGV[#ARGV - 2])
  local first, last = math.floor(math.min(first_ms, now_ms) / width_ms), math.floor(math.min(last_ms, now_ms) / width_ms)
  return first == last and first or nil
end

local function note_ends()
  local slices, only = {}, only_slice()
  for i, entry in pairs(appended) do
    local holder = holders[i]
    if holder then
      local number = only or math.floor(enqueued_ms(holder, now_ms) / width_ms)
      local slice = slices[number]
      if not slice then
        slice = {ids = {}, holders = {}, entries = {}, count = 0}
        slices[number] = slice
      end
      local place = slice.count + 1
      slice.count, slice.ids[place], slice.holders[place], slice.entries[place] = place, reserved[i], holder, entry
    end
  end
  for number, slice in pairs(slices) do
    local key, list, length = KEYS[10] .. ':' .. ARGV[#ARGV] .. ':' .. string.format('%.0f', number), {}, 0
    local values = slice_get(key, unpack(slice.ids))
    for place = 1, #values do
      -- A job that has not reserved its id, or whose id is with another job by now, reserves nothing by ending.
      local value, holder = values[place], slice.holders[place]
      if value and (value == holder or holder_and_end(value) == holder) then
        list[length + 1], list[length + 2] = slice.ids[place], holder .. ' ' .. slice.entries[place]
        length = length + 2
      end
    end
    if length > 0 then
      courteous('HSET', key, unpack(list, 1, length))
    end
  end
end

local function answer(asked)
  local ms = enqueued_ms(asked.holder, now_ms)
  local index = index_open(KEYS[10], window_ms, width_ms, now_ms, ms, ms)
  for _, key in ipairs(slices_near(index, slice_number(index, ms))) do
    local value = slice_get(key, asked.id)[1]
    local holder, entry = holder_and_end(value or '')
    if entry and entry ~= '' and math.abs(enqueued_ms(holder, now_ms) - ms) < window_ms then
      local known = redis.call('XRANGE', completions, entry, entry)[1]
      for place = 1, known and #known[2] or 0, 2 do
        if known[2][place] == 'event' then
          return reply_to(KEYS[asked.reply], known[2][place + 1], asked.reply_s)
        end
      end
    end
  end
end

-- These only read before they write, and what they write is a courtesy.
courtesies[#courtesies + 1] = all_or_nothing(note_ends)
for i, asked in pairs(unanswered) do
  if not why[i] then
    courtesies[#courtesies + 1] = all_or_nothing(answer, asked)
  end
end

local counts = {}
for _, name in pairs(names) do
  counts[name] = (counts[name] or 0) + 1
end
for name, count in pairs(counts) do
  courteous('HINCRBY', KEYS[9], name, count)
end
return {not_ours, failed, courtesies}
