-- admit.lua: decides for each delivery of a batch whether it may call XCO now. (Needs atomic.lua, index.lua,
-- reserve.lua, limiter.lua, turns.lua and recent.lua before it.)
--
-- KEYS  1 begun · 2 the stream · 3, 4 queues of bulk jobs that wait for shared buckets · 5 the list of ids that
--       former versions reserved · 6 the index of ids · 7, 8 the hashes of recent buckets · then the limiter buckets,
--       grouped by rate · then the batch keys, in the order of the jobs. The names of slices and of former reservations
--       are made from keys 6 and 5.
-- ARGV  1 number of jobs · 2 number of groups of buckets · 3 dedupe window in ms · 4 life of batch counters in s · 5
--       consumer · 6 attempt number of this request, from 1 · 7 the youngest entry among the jobs with an id ('' if
--       none) · 8 number of ids · 9 '1' if jobs with an id include their entry ids · 10 width of a slice in ms · 11 life
--       of a slice in ms, from the last reservation · 12, 13 when the first and the last of the jobs with an id were
--       enqueued, in ms · 14 '1' if callers' buckets may be written to the hashes, because all workers look there
--         then for each group, 5 values: number of buckets · interval · tolerance · slack in us · position of its queue
--         in KEYS (0: not shared)
--         then for each id, in the order of the jobs: the id · its holder
--         then for each job: its letters · number of its bucket (negative if it has a reservation there) · and for some
--         letters more values, in this order:
--           i  it has an id to reserve: nothing, or the entry id
--           c  it has a batch key to count in: nothing
--           t  it uses a second bucket: its number
--           d  it has a deadline: ms
--           r  it has a run_at: ms
--           m  its call is not safe to repeat: a call marker that is unique to the delivery · the entry id · the origin
--           s  it has a turn in its bucket: the turn
--           u  it has a turn in the second bucket: the turn
--           q  it is a bulk job: its age in the queues
--           a  it is delayed in any case, because it has no worker slot; if it could call, its reservation is for now:
--              nothing
-- Returns  a flat array: now in ms, then for each job that is not admitted its number (from 1), a code, a time in us (0 if
--          the code has none), and its turn (0 if it is not given one):
--           1 duplicate
--           2 expired
--           3 wait for the bucket until then; it has this turn
--           4 wait for the second bucket until then; it has this turn there, and has a reservation in its own bucket
--           5 wait for run_at
--           6 the limit would let it run only after its deadline
--           7 another delivery began an unsafe call
--           8 the delivery now belongs to another consumer, or its entry is gone. This is checked if a call marker
--              would be set, because a worker that slept past its lease must not call. It is also checked for all jobs
--              that would reserve ids, if this Redis does not know the youngest of their entries. A delivery without a
--              consumer is taken by this one.
--           9 wait in the bucket's queue
--           10 wait in the second bucket's queue; reserved in the first, unless that is shared
--           11 it came before its turn, or the bucket has no room: wait until then, with this turn
--           12 answers for all jobs (number 0): ask again with entry ids
--           13 as 11, in the second bucket
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

local FIXED_KEYS, FIXED_ARGS, GROUP_ARGS = 8, 14, 5
local buckets, at = 0, FIXED_ARGS + 1
for _ = 1, groups do
  buckets = buckets + ARGV[at]
  at = at + GROUP_ARGS
end

-- The buckets in the order of their keys: the keys, the stored forms, the rates, and the bucket once a job needs all of
-- it. Most buckets have room and no history. Of these only the TAT is read (`raw`) and written (`light`), which costs a
-- fraction.
local bucket_keys, raw, rates, open, light = {}, {}, {}, {}, {}
-- The buckets that have a key of their own; and the hash that holds the others, and whether it is new.
local own_key, recent, recent_is_new = {}, nil, false
if buckets > 0 then
  bucket_keys = {unpack(KEYS, FIXED_KEYS + 1, FIXED_KEYS + buckets)}
  raw = redis.call('MGET', unpack(bucket_keys))
  local other
  recent, other, recent_is_new = recent_now({KEYS[7], KEYS[8]})
  for i = 1, buckets do
    own_key[i] = raw[i] and true
  end
  if not recent_is_new then
    recent_read(recent, bucket_keys, raw)
  end
  if other then
    recent_read(other, bucket_keys, raw)
  end
  at = FIXED_ARGS + 1
  local i = 1
  for _ = 1, groups do
    local last, rate = i + ARGV[at] - 1, limiter_rate(ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
    at = at + GROUP_ARGS
    while i <= last do
      rates[i] = rate
      i = i + 1
    end
  end
end

-- Opens a bucket.
local function bucket_of(i)
  local bucket = open[i]
  if not bucket then
    bucket = limiter_open(raw[i], rates[i], now_us)
    if light[i] then
      bucket.tat, bucket.dirty = light[i], true
    end
    open[i] = bucket
  end
  return bucket
end

-- Takes a call from a bucket without a history that has room. Returns whether it did.
local function enter_lightly(i)
  local rate, tat = rates[i], light[i]
  if open[i] then
    return false
  elseif not tat then
    tat = limiter_plain(raw[i], rate, now_us)
  end
  if not tat or rate.interval == 0 or tat - rate.tolerance > now_us then
    return false
  end
  light[i] = (tat > now_us and tat or now_us) + rate.interval
  return true
end

-- Writes the buckets back. A light one is written to the hash if that may be written, and to its own key otherwise.
local function save_buckets()
  local list, length, moved = {}, 0, {}
  for i = 1, buckets do
    local tat = light[i]
    if open[i] then
      limiter_save(bucket_keys[i], open[i], now_us)
    elseif tat and ARGV[14] == '1' and rates[i].queue == 0 and tat - now_us < RECENT_US then
      list[length + 1], list[length + 2] = bucket_keys[i], struct.pack('<d', tat)
      length = length + 2
      if own_key[i] then
        moved[#moved + 1] = bucket_keys[i]
      end
    elseif tat then
      redis.call('SET', bucket_keys[i], tat, 'PXAT', limiter_expiry(tat))
    end
  end
  if length > 0 then
    recent_write(recent, list, recent_is_new)
  end
  if #moved > 0 then
    redis.call('DEL', unpack(moved))
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

-- Takes a place in a bucket. Returns nothing if the job may go now, else a code, a time and the job's turn if it is new.
local function enter(number, deadline, code, turn, must_wait)
  if number > 0 and not must_wait and enter_lightly(number) then
    return nil
  end
  local bucket = bucket_of(number < 0 and -number or number)
  local slot, given
  if number < 0 then
    slot, given = limiter_claim(bucket, turn, now_us)
    code = code == 4 and 13 or 11
  else
    slot = limiter_slot(bucket, now_us)
  end
  if deadline and slot >= deadline * 1000 then
    return 6, 0
  end
  if number > 0 then
    slot, given = limiter_enter(bucket, now_us, must_wait)
  end
  if slot > now_us or given then
    return code, slot, given
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
  local slot = limiter_bulk_slot(bucket, now_us)
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
local function enter_bulk(first, second, deadline, turn, age, must_wait)
  local own, total = bucket_of(math.abs(first)), second and bucket_of(math.abs(second))
  local code, slot, given
  if own.own.queue > 0 then
    code = stand(own, deadline, 9, age)
  else
    code, slot, given = enter(first, deadline, 3, turn, must_wait)
  end
  if not code and total then
    code = stand(total, deadline, 10, age)
  end
  if code then
    return code, slot or 0, given
  end
  if own.own.queue > 0 then
    limiter_take_bulk(own, now_us)
  end
  if total then
    limiter_take_bulk(total, now_us)
  end
end

-- Whether this Redis has lost deliveries of this batch. If it has the youngest, it has the others too, because replicas
-- and logs receive writes in order.
local has_lost = ids > 0 and not is_pending(KEYS[2], ARGV[7], ARGV[5])
if has_lost and not with_entries then
  return {now_ms, 0, 12, 0, 0}
end

if ids > 0 then
  at = look_up({ids = ids, first = at, former = KEYS[5], index = KEYS[6], window_ms = window_ms, width_ms = width_ms,
    first_ms = math.min(tonumber(ARGV[12]), now_ms), last_ms = math.min(tonumber(ARGV[13]), now_ms), now_ms = now_ms})
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

-- Returns nothing for a job that is admitted, else a code, a time, whether this delivery has set its call marker, and the
-- job's turn if it is new.
local function judge(token, id, batch_key, first, second, deadline, run_at, mark, entry, turn, second_turn, age, aside)
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
  local code, due_us, given
  if age then
    code, due_us, given = enter_bulk(first, second, deadline, turn, age, aside)
  else
    code, due_us, given = enter(first, deadline, 3, turn, aside)
    if not code and second then
      code, due_us, given = enter(second, deadline, 4, second_turn, aside)
    end
  end
  if not code and aside then
    code, due_us = second and 4 or 3, now_us
  end
  if code then
    return code, due_us, begun, given
  end
  if mark then
    marks[#marks + 1] = token
    marks[#marks + 1] = mark .. '/' .. ARGV[6]
  end
end

-- The meaning of letters, by the letters. A batch has few different ones.
local meanings = {}
local function meaning_of(has)
  local function given(letter)
    return find(has, letter, 1, true) ~= nil
  end
  local meaning = {
    id = given('i'), entry = given('i') and with_entries, batch = given('c'), second = given('t'), deadline = given('d'),
    run_at = given('r'), mark = given('m'), turn = given('s'), second_turn = given('u'), age = given('q'),
    aside = given('a'),
  }
  -- A safe call with an id and perhaps a deadline: the most common case.
  meaning.is_plain = not with_entries and (has == 'i' or has == 'id')
  meanings[has] = meaning
  return meaning
end

-- Decides about a job with more values than an id and a deadline. Returns a code, a time and the turn it was given, unless
-- it is admitted.
local function consider(has, first)
  local id, batch_key, second, deadline, run_at, mark, entry, token, age
  local turn, second_turn = 0, 0
  if has.id then
    next_id = next_id + 1
    id = next_id
  end
  if has.entry then
    entry, at = ARGV[at], at + 1
  end
  if has.batch then
    next_batch_key = next_batch_key + 1
    batch_key = next_batch_key
  end
  if has.second then
    second, at = tonumber(ARGV[at]), at + 1
  end
  if has.deadline then
    deadline, at = tonumber(ARGV[at]), at + 1
  end
  if has.run_at then
    run_at, at = tonumber(ARGV[at]), at + 1
  end
  if has.mark then
    mark, entry, token, at = ARGV[at], ARGV[at + 1], ARGV[at + 2], at + 3
  end
  if has.turn then
    turn, at = tonumber(ARGV[at]), at + 1
  end
  if has.second_turn then
    second_turn, at = tonumber(ARGV[at]), at + 1
  end
  if has.age then
    age, at = tonumber(ARGV[at]), at + 1
  end
  local code, due_us, marked, given = judge(token, id, batch_key, first, second, deadline, run_at, mark, entry, turn,
    second_turn, age, has.aside)
  if code and marked then
    redis.call('HDEL', KEYS[1], token)
  end
  return code, due_us, given
end

for i = 1, jobs do
  local has, first = meanings[ARGV[at]] or meaning_of(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  local code, due_us, given
  if has.is_plain and not has_lost then
    local deadline
    next_id = next_id + 1
    if has.deadline then
      deadline, at = tonumber(ARGV[at]), at + 1
    end
    if reserve(next_id) then
      code, due_us = 1, 0
    elseif deadline and now_ms >= deadline then
      code, due_us = 2, 0
    else
      code, due_us, given = enter(first, deadline, 3, 0)
    end
  else
    code, due_us, given = consider(has, first)
  end
  if code then
    reply[#reply + 1] = i
    reply[#reply + 1] = code
    reply[#reply + 1] = due_us
    reply[#reply + 1] = given or 0
  end
end

-- If an expiry fails, the ids are free again, and the request is repeated. Batches are counted only now, so that a
-- repeated request counts no job twice.
local to_count, why = write_reservations(life_ms)
if why then
  return redis.error_reply(why)
end
for _, batch_key in ipairs(to_count) do
  count(batch_key)
end
if #marks > 0 then
  redis.call('HSET', KEYS[1], unpack(marks))
end
save_buckets()
return reply
