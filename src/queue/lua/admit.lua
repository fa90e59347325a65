-- admit.lua: decides, for a batch of deliveries, which may call XCO now. (limiter.lua stands before this text.)
--
-- KEYS  1 begun · 2 the stream · then <buckets> limiter buckets · then the id keys and batch keys that the jobs refer to by position
-- ARGV  1 jobs · 2 buckets · 3 dedupe window in ms · 4 batch counters' life in s · 5 consumer · then 2 a bucket:
--       interval in us, burst · then 9 a job:
--         token · entry id · id key (position in KEYS, 0 none) · batch key (0 none) · bucket and second bucket (number, 0 none,
--         negative where a slot in it is already reserved) · deadline in ms (0 none) · run_at in ms (0 none) ·
--         mark (unique to the delivery; '' if the call is safe to repeat)
-- Returns  a flat array: now in ms, then two numbers a job, a code and a time in us (0 where it has none):
--         0 admitted · 1 duplicate · 2 expired · 3 wait for the bucket, due then, its slot reserved · 4 the same for the
--         second bucket, both reserved · 5 wait for run_at · 6 its limit lets it run only after its deadline · 7 an
--         unsafe call was begun by another delivery · 8 the delivery is not this consumer's any more (asked only where a
--         mark would be set: a worker that slept over its lease must not begin)
-- Guarantees  Nothing is admitted twice under one mark. Run again after a lost reply it gives the same answers, but for
--         slots, which it may reserve again. O(jobs); jobs <= 512.

local jobs, buckets = tonumber(ARGV[1]), tonumber(ARGV[2])
local now_us = limiter_now()
local now_ms = math.floor(now_us / 1000)
local at = 6

local open = {}
if buckets > 0 then
  local raw = redis.call('MGET', unpack(KEYS, 3, 2 + buckets))
  for i = 1, buckets do
    open[i] = limiter_open(raw[i], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), now_us)
    at = at + 2
  end
end

local reply, marks = {now_ms}, {}

-- The slot of a job in a bucket; a job that holds one already asks again only where a 429 has closed the bucket since.
local function slot_in(number)
  if number == 0 then
    return now_us
  end
  local bucket = open[math.abs(number)]
  if number < 0 and bucket.closed <= now_us then
    return now_us
  end
  return limiter_slot(bucket, now_us), bucket
end

local function count(batch_key)
  if batch_key > 0 then
    redis.call('HINCRBY', KEYS[batch_key], 'accepted', 1)
    redis.call('EXPIRE', KEYS[batch_key], ARGV[4])
  end
end

local function judge(token, entry, id_key, batch_key, first, second, deadline, run_at, mark)
  if id_key == 0 then
    count(batch_key)
  elseif redis.call('SET', KEYS[id_key], token, 'NX', 'PX', ARGV[3]) then
    count(batch_key)
  elseif redis.call('GET', KEYS[id_key]) ~= token then
    return 1, 0
  end
  if mark ~= '' then
    -- Without its group a delivery is nobody's: it is delivered anew once the group is back.
    local owned = redis.pcall('XPENDING', KEYS[2], 'workers', entry, entry, 1, ARGV[5])
    if owned.err or #owned == 0 then
      return 8, 0
    end
    local begun = redis.call('HGET', KEYS[1], token)
    if begun and begun ~= mark then
      return 7, 0
    end
  end
  if deadline > 0 and now_ms >= deadline then
    return 2, 0
  end
  if run_at > now_ms then
    return 5, run_at * 1000
  end
  for code, number in ipairs({first, second}) do
    local slot, bucket = slot_in(number)
    if bucket then
      if deadline > 0 and slot >= deadline * 1000 then
        return 6, 0
      end
      limiter_take(bucket, slot)
      if slot > now_us then
        return code + 2, slot
      end
    end
  end
  if mark ~= '' then
    marks[#marks + 1] = token
    marks[#marks + 1] = mark
  end
  return 0, 0
end

for i = 1, jobs do
  local code, value = judge(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]),
    tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]), ARGV[at + 8])
  reply[2 * i], reply[2 * i + 1] = code, value
  at = at + 9
end

if #marks > 0 then
  redis.call('HSET', KEYS[1], unpack(marks))
end
for i = 1, buckets do
  limiter_save(KEYS[2 + i], open[i], now_us)
end
return reply
