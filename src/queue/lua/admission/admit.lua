-- admit.lua: decides for each delivery of a batch whether it may call XCO now. (Needs atomic.lua, index.lua and
-- limiter.lua before it.)
--
-- KEYS  1 begun · 2 the stream · 3, 4 queues of bulk jobs that wait for shared buckets · 5 the list of ids that
--       former versions reserved · 6 the index of ids · then the limiter buckets, grouped by rate · then the batch keys,
--       in the order of the jobs. The names of slices and of former reservations are made from keys 6 and 5.
-- ARGV  1 number of jobs · 2 number of groups of buckets · 3 dedupe window in ms · 4 life of batch counters in s · 5
--       consumer · 6 attempt number of this request, from 1 · 7 the youngest entry among the jobs with an id ('' if
--       none) · 8 number of ids · 9 '1' if jobs with an id include their entry ids · 10 width of a slice in ms · 11 life
--       of a slice in ms, from the last reservation
--         then for each group, 5 values: number of buckets · interval · tolerance · slack in us · position of its queue
--         in KEYS (0: not shared)
--         then for each id, in the order of the jobs: the id · its holder
--         then for each job: its letters · origin · number of its bucket (negative if it has a reservation there) · and
--         for some letters more values, in this order:
--           i  it has an id to reserve: nothing, or the entry id
--           c  it has a batch key to count in: nothing
--           t  it uses a second bucket: its number
--           d  it has a deadline: ms
--           r  it has a run_at: ms
--           m  its call is not safe to repeat: a call marker that is unique to the delivery · the entry id
--           s  it has a reservation: how it was made (r as asked for · l in a line · 4 by a 429) · since when it waits,
--              ms
--           q  it is a bulk job: its age in the queues
--           a  it is delayed in any case, because it has no worker slot; if it could call, its reservation is for now:
--              nothing
-- Returns  a flat array: now in ms, then for each job that is not admitted its number (from 1), a code, and a time in
--          us (0 if the code has none):
--           1 duplicate
--           2 expired
--           3 wait for the bucket until then; reserved
--           4 wait for the second bucket until then; reserved in both
--           5 wait for run_at
--           6 the limit would let it run only after its deadline
--           7 another delivery began an unsafe call
--           8 the delivery now belongs to another consumer, or its entry is gone. This is checked if a call marker
--              would be set, because a worker that slept past its lease must not call. It is also checked for all jobs
--              that would reserve ids, if this Redis does not know the youngest of their entries. A delivery without a
--              consumer is taken by this one.
--           9 wait in the bucket's queue
--           10 wait in the second bucket's queue; reserved in the first, unless that is shared
--           11 its reservation found no room or was invalidated by a 429: wait for this new one
--           12 answers for all jobs (number 0): ask again with entry ids
-- Guarantees  Nothing is admitted twice under one call marker. Repeated after a lost reply, it gives the same answers,
--             except that it may make reservations again and that time has passed. A job that was admitted then and is
--             not now loses its marker, unless a later attempt was answered since. If a command fails, the whole
--             request must be repeated: no job was admitted, and repeated writes have the same effect. A job is a
--             duplicate if the index, or a former reservation, names a job of the same id that was enqueued within the
--             window before or after it. A slice is kept until no waiting job can be a duplicate of a job in it; every
--             slice is named in the index before it is written. A slice of another type reserves nothing and is
--             replaced. A delivery that Redis does not know (lost in a failover) reserves no id, because its job may
--             have been enqueued again. O(jobs · (log queue + slices in two windows)); jobs <= 512.

local jobs, groups = tonumber(ARGV[1]), tonumber(ARGV[2])
local now_us = limiter_now()
local now_ms = math.floor(now_us / 1000)
local window_ms = tonumber(ARGV[3])
local width_ms = tonumber(ARGV[10])
-- If no worker forgets ids, they still expire. The expiry also tells when an id was reserved last.
local life_ms = tonumber(ARGV[11])
local find = string.find

local FIXED_KEYS, FIXED_ARGS, GROUP_ARGS = 6, 11, 5
local buckets, at = 0, FIXED_ARGS + 1
for _ = 1, groups do
  buckets = buckets + ARGV[at]
  at = at + GROUP_ARGS
end
local open = {}
if buckets > 0 then
  local raw = redis.call('MGET', unpack(KEYS, FIXED_KEYS + 1, FIXED_KEYS + buckets))
  at = FIXED_ARGS + 1
  local i = 1
  for _ = 1, groups do
    local last, rate = i + ARGV[at] - 1, limiter_rate(ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
    at = at + GROUP_ARGS
    while i <= last do
      open[i] = limiter_open(raw[i], rate, now_us)
      i = i + 1
    end
  end
end

local reply, marks = {now_ms}, {}
local ids, with_entries = tonumber(ARGV[8]), ARGV[9] == '1'
local next_batch_key, next_id = FIXED_KEYS + buckets, 0

local function count(batch_key)
  if batch_key then
    courtesy('HINCRBY', KEYS[batch_key], 'accepted', 1)
    courtesy('EXPIRE', KEYS[batch_key], ARGV[4])
  end
end

-- Takes a place in a bucket. Returns nothing if the bucket is open now, else a code and a time. A job with a
-- reservation gets a new one only if a 429 closed the bucket meanwhile, or if other jobs came late for theirs.
local function enter(number, deadline, code, given_as, given_us)
  local bucket = open[math.abs(number)]
  local slot
  if number < 0 then
    slot = limiter_claim(bucket, given_as, given_us, now_us)
    code = 11
  else
    slot = limiter_slot(bucket, now_us)
  end
  if deadline and slot >= deadline * 1000 then
    return 6, 0
  end
  if code ~= 11 then
    limiter_take(bucket, slot, now_us)
  end
  if slot > now_us then
    return code, slot
  end
end

-- Decides whether a bulk job may use a shared bucket: returns nothing if there is room and no older job waits, else a
-- code.
local heads = {}
local function stand(bucket, deadline, code, age)
  local queue = KEYS[bucket.own.queue]
  local head = heads[queue]
  if not head then
    head = tonumber(redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]) or math.huge
    heads[queue] = head
  end
  local slot = limiter_slot(bucket, now_us)
  if slot <= now_us and age <= head then
    return nil
  end
  if deadline and slot + bucket.interval * redis.call('ZCOUNT', queue, '-inf', string.format('(%.0f', age)) >= deadline * 1000 then
    return 6
  end
  return code
end

-- Decides the same for a bulk job in its own bucket and the second one. A shared bucket is charged only if the job
-- goes.
local function enter_bulk(first, second, deadline, given_as, given_us, age)
  local own, total = open[math.abs(first)], second and open[math.abs(second)]
  local code, slot
  if own.own.queue > 0 then
    code = stand(own, deadline, 9, age)
  else
    code, slot = enter(first, deadline, 3, given_as, given_us)
  end
  if not code and total then
    code = stand(total, deadline, 10, age)
  end
  if code then
    return code, slot or 0
  end
  if own.own.queue > 0 then
    limiter_take(own, now_us, now_us)
  end
  if total then
    limiter_take(total, now_us, now_us)
  end
end

-- Whether this Redis has lost deliveries of this batch. If it has the youngest, it has the others too, because replicas
-- and logs receive writes in order.
local has_lost = ids > 0 and not is_pending(KEYS[2], ARGV[7], ARGV[5])
if has_lost and not with_entries then
  return {now_ms, 0, 12, 0}
end

-- For each id, by its number: the id, its holder, when that was enqueued, and the values that the index has for the id.
local names, holders, times, found = {}, {}, {}, {}
local index

local function note(number, value)
  local values = found[number]
  if values then
    values[#values + 1] = value
  else
    found[number] = {value}
  end
end

-- Looks up reservations that former versions made: one key for each id, which names origins.
local function look_up_former()
  if redis.call('TYPE', KEYS[5]).ok == 'none' then
    return
  end
  local keys, start = {}, string.sub(KEYS[5], 1, -2) .. ':'
  for number = 1, ids do
    keys[number] = start .. names[number]
  end
  for number, origins in ipairs(redis.call('MGET', unpack(keys))) do
    for origin in string.gmatch(origins or '', '[^ ]+') do
      note(number, string.sub(origin, 1, 1) .. (string.match(origin, '%d+%-%d+$') or ''))
    end
  end
end

-- Looks up the ids of jobs that were all enqueued in one slice. `numbers` says which jobs they are.
local function look_up_slice(slice, asked, numbers)
  for _, key in ipairs(slices_near(index, slice)) do
    local values = slice_get(key, unpack(asked))
    for place = 1, #values do
      if values[place] then
        note(numbers and numbers[place] or place, values[place])
      end
    end
  end
end

local function look_up()
  local first_ms, last_ms = math.huge, 0
  for number = 1, ids do
    local holder = ARGV[at + 1]
    local ms = enqueued_ms(holder, now_ms)
    names[number], holders[number], times[number] = ARGV[at], holder, ms
    at = at + 2
    if ms < first_ms then
      first_ms = ms
    end
    if ms > last_ms then
      last_ms = ms
    end
  end
  index = index_open(KEYS[6], window_ms, width_ms, now_ms, first_ms, last_ms)
  look_up_former()
  if slice_number(index, first_ms) == slice_number(index, last_ms) then
    -- The most common case.
    return look_up_slice(slice_number(index, first_ms), names)
  end
  local asked, numbers = {}, {}
  for number = 1, ids do
    local slice = slice_number(index, times[number])
    if not asked[slice] then
      asked[slice], numbers[slice] = {}, {}
    end
    local place = #numbers[slice] + 1
    asked[slice][place], numbers[slice][place] = names[number], number
  end
  for slice, some in pairs(asked) do
    look_up_slice(slice, some, numbers[slice])
  end
end

if ids > 0 then
  look_up()
end

-- What to write to each slice, and which batches to count in afterwards; and the holders, by id, apart by spaces.
local reservations, reserved = {}, {}

-- Reserves an id, unless it is reserved. Returns whether another job has it.
local function reserve(number, batch_key)
  local id, own, ms = names[number], holders[number], times[number]
  local others, before, taken = found[number], reserved[id], false
  if others or before then
    others = others or {}
    for holder in string.gmatch(before or '', '%S+') do
      others[#others + 1] = holder
    end
    for _, value in ipairs(others) do
      local holder = holder_and_end(value)
      if holder == own then
        return false
      end
      taken = taken or math.abs(enqueued_ms(holder, now_ms) - ms) < window_ms
    end
    if taken then
      return true
    end
  end
  reserved[id] = before and before .. ' ' .. own or own
  local slice = slice_number(index, ms)
  local here = reservations[slice]
  if not here then
    here = {ids = {}, list = {}, batches = {}}
    reservations[slice] = here
  end
  local place = #here.ids + 1
  here.ids[place], here.list[2 * place - 1], here.list[2 * place] = id, id, own
  here.batches[#here.batches + 1] = batch_key
  return false
end

-- Whether this consumer has a delivery. A delivery without a consumer, because another program took it off the pending
-- list, is taken by this one.
local function holds(entry)
  if is_pending(KEYS[2], entry, ARGV[5]) then
    return true
  end
  -- Without its group, a delivery belongs to no consumer. It is delivered again once the group is back.
  local rows = redis.pcall('XPENDING', KEYS[2], 'workers', entry, entry, 1)
  if is_error(rows) or #rows == 1 and rows[1][2] ~= ADRIFT or #redis.call('XRANGE', KEYS[2], entry, entry) == 0 then
    return false
  end
  return not is_error(redis.pcall('XCLAIM', KEYS[2], 'workers', ARGV[5], 0, entry, 'RETRYCOUNT', '1', 'FORCE', 'JUSTID'))
end

-- Returns nothing for a job that is admitted, else a code, a time, and whether this delivery has set its call marker.
local function judge(token, id, batch_key, first, second, deadline, run_at, mark, entry, given_as, given_us, age, aside)
  if id and has_lost and not holds(entry) then
    return 8, 0
  end
  if not id then
    count(batch_key)
  elseif reserve(id, batch_key) then
    return 1, 0
  end
  local begun
  if mark then
    if not holds(entry) then
      return 8, 0
    end
    begun = redis.call('HGET', KEYS[1], token)
    if begun then
      -- An earlier attempt that arrives after a later one was answered finds that the call has started or ended.
      local by, asking = string.match(begun, '^(.*)/(%d+)$')
      if by ~= mark or tonumber(asking) > tonumber(ARGV[6]) then
        return 7, 0
      end
    end
  end
  if deadline and now_ms >= deadline then
    return 2, 0, begun
  end
  if run_at and run_at > now_ms then
    return 5, run_at * 1000, begun
  end
  local code, due_us
  if age then
    code, due_us = enter_bulk(first, second, deadline, given_as, given_us, age)
  else
    code, due_us = enter(first, deadline, 3, given_as, given_us)
    if not code and second then
      code, due_us = enter(second, deadline, 4, given_as, given_us)
    end
  end
  if not code and aside then
    code, due_us = second and 4 or 3, now_us
  end
  if code then
    return code, due_us, begun
  end
  if mark then
    marks[#marks + 1] = token
    marks[#marks + 1] = mark .. '/' .. ARGV[6]
  end
end

for i = 1, jobs do
  local has, token, first = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  local id, batch_key, second, deadline, run_at, mark, entry, age, aside
  local given_as, given_us = 'r', 0
  if has == 'i' and not with_entries then
    -- The most common case: a check with an id.
    next_id = next_id + 1
    id = next_id
  elseif has ~= '' then
    if find(has, 'i', 1, true) then
      next_id = next_id + 1
      id = next_id
      if with_entries then
        entry, at = ARGV[at], at + 1
      end
    end
    if find(has, 'c', 1, true) then
      next_batch_key = next_batch_key + 1
      batch_key = next_batch_key
    end
    if find(has, 't', 1, true) then
      second, at = tonumber(ARGV[at]), at + 1
    end
    if find(has, 'd', 1, true) then
      deadline, at = tonumber(ARGV[at]), at + 1
    end
    if find(has, 'r', 1, true) then
      run_at, at = tonumber(ARGV[at]), at + 1
    end
    if find(has, 'm', 1, true) then
      mark, entry, at = ARGV[at], ARGV[at + 1], at + 2
    end
    if find(has, 's', 1, true) then
      given_as, given_us, at = ARGV[at], tonumber(ARGV[at + 1]) * 1000, at + 2
    end
    if find(has, 'q', 1, true) then
      age, at = tonumber(ARGV[at]), at + 1
    end
    aside = find(has, 'a', 1, true)
  end
  local code, due_us, marked = judge(token, id, batch_key, first, second, deadline, run_at, mark, entry,
    given_as, given_us, age, aside)
  if code then
    if marked then
      redis.call('HDEL', KEYS[1], token)
    end
    reply[#reply + 1] = i
    reply[#reply + 1] = code
    reply[#reply + 1] = due_us
  end
end

for slice, here in pairs(reservations) do
  -- If the expiry fails, the ids are free again, and the request is repeated.
  local why = all_or_nothing(slice_put, index, slice, life_ms, here.list, {'HDEL', slice_key(index, slice), unpack(here.ids)})
  if why then
    return redis.error_reply(string.match(why, '^%S+ %S+: (.*)$') or why)
  end
  -- Only now, so that a repeated request counts no job twice.
  for _, batch_key in ipairs(here.batches) do
    count(batch_key)
  end
end
if #marks > 0 then
  redis.call('HSET', KEYS[1], unpack(marks))
end
for i = 1, buckets do
  limiter_save(KEYS[FIXED_KEYS + i], open[i], now_us)
end
return reply
