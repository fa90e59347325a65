-- limiter.lua: the arithmetic of one bucket, written once and put before every script that limits.
--
-- GCRA with reservation. A bucket remembers its theoretical arrival time (TAT): the moment at which it would be full
-- again. A call may go at max(now, TAT - tolerance), where tolerance = interval * (burst - 1); going moves TAT on by one
-- interval. A call that may not go yet is given its own slot in the future, so it waits once and in order.
--
-- A 429 closes the bucket until T: slots begin at T, one interval apart, without a burst. It also teaches (limits.learn),
-- since XCO publishes no limits: from the second 429 on the bucket has a rate, four fifths of what went through since the
-- one before; it then grows by 5 % of that a second, up to the configured one. What was learned is forgotten after ten
-- minutes without a 429.
--
-- Stored as the TAT alone or, after a 429, as seven packed doubles: TAT, closed until, strikes, learned rate, learned at,
-- calls since, since when. Times in microseconds on Redis's clock (exact below 2^53), rates in calls a microsecond.
-- Expires when it says nothing any more, so memory is bounded by the callers of that time.

local FORGET_US, QUIET_US, HISTORY_BYTES = 600000000, 60000000, 56
local LEAST_RATE, GROWTH, DECREASE = 0.2 / 1000000, 0.05 / 1000000, 0.8

local function limiter_now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- A bucket from its stored form (false where absent), with its configured rate: interval 0 is none.
local function limiter_open(raw, interval_us, burst, now_us)
  local bucket = {tat = 0, closed = 0, since = 0, interval = interval_us, tolerance = interval_us * (burst - 1)}
  if not raw then
    return bucket
  end
  if #raw ~= HISTORY_BYTES then
    bucket.tat = tonumber(raw) or 0
    return bucket
  end
  bucket.tat, bucket.closed, bucket.strikes, bucket.rate, bucket.learned_at, bucket.count, bucket.since =
    struct.unpack('<ddddddd', raw)
  if bucket.rate > 0 and now_us < bucket.learned_at + FORGET_US then
    local grown = bucket.rate * (1 + GROWTH * (now_us - bucket.learned_at))
    if 1 / grown > interval_us then
      bucket.interval, bucket.tolerance = math.ceil(1 / grown), 0
    end
  end
  return bucket
end

-- The moment at which the next call may go: now, or later.
local function limiter_slot(bucket, now_us)
  local slot = now_us
  if bucket.interval > 0 and bucket.tat - bucket.tolerance > slot then
    slot = bucket.tat - bucket.tolerance
  end
  if bucket.closed > slot then
    slot = bucket.closed
  end
  return slot
end

-- Takes the slot that limiter_slot gave.
local function limiter_take(bucket, slot_us)
  if bucket.interval > 0 then
    if bucket.tat < slot_us then
      bucket.tat = slot_us
    end
    bucket.tat = bucket.tat + bucket.interval
    bucket.dirty = true
  end
  if bucket.since > 0 then
    bucket.count = bucket.count + 1
    bucket.dirty = true
  end
end

-- From a 429: a lower rate, once there is something to tell it from.
local function limiter_learn(bucket, now_us)
  if bucket.since > 0 then
    local seen = math.max(bucket.count, 0) / math.max(now_us - bucket.since, 1000000)
    local current = bucket.interval > 0 and 1 / bucket.interval or math.huge
    bucket.rate = math.max(DECREASE * math.min(seen, current), LEAST_RATE)
    bucket.learned_at = now_us
    if 1 / bucket.rate > bucket.interval then
      bucket.interval, bucket.tolerance = math.ceil(1 / bucket.rate), 0
    end
  end
  bucket.since, bucket.count = now_us, 0
end

-- Closes the bucket: until now + retry_after_us where XCO named a delay, else for 1 s, 2 s, 4 s … up to 60 s while 429s
-- follow each other (a quiet minute after a closure starts over). Never shortens a closure.
local function limiter_close(bucket, now_us, retry_after_us, learn)
  if not bucket.strikes then
    bucket.strikes, bucket.rate, bucket.learned_at, bucket.count = 0, 0, 0, 0
  end
  if now_us > bucket.closed + QUIET_US then
    bucket.strikes = 0
  end
  bucket.count = bucket.count - 1
  -- 429s of calls that were under way together are one strike: the closure already answers them.
  if now_us >= bucket.closed then
    bucket.strikes = math.min(bucket.strikes + 1, 30)
    if learn then
      limiter_learn(bucket, now_us)
    end
  end
  local delay = retry_after_us
  if delay < 0 then
    delay = math.min(1000000 * 2 ^ (bucket.strikes - 1), 60000000)
  end
  if now_us + delay > bucket.closed then
    bucket.closed = now_us + delay
  end
  if bucket.tat < bucket.closed + bucket.tolerance then
    bucket.tat = bucket.closed + bucket.tolerance
  end
  bucket.dirty = true
end

-- Expiry is told in whole tenths of a second, after the moment itself, so that the text of it is made once for many buckets.
local limiter_expiries = {}

local function limiter_expiry(us)
  local tenth = math.floor(us / 100000) + 1
  local text = limiter_expiries[tenth]
  if not text then
    text = string.format('%.0f', tenth * 100)
    limiter_expiries[tenth] = text
  end
  return text
end

-- Writes the bucket back where it changed. Redis writes a number as an argument with 17 digits: exact here.
local function limiter_save(key, bucket, now_us)
  if not bucket.dirty then
    return
  end
  local until_us, value = bucket.tat, bucket.tat
  if bucket.closed > 0 then
    until_us = math.max(until_us, bucket.closed + QUIET_US)
    if bucket.rate > 0 then
      until_us = math.max(until_us, bucket.learned_at + FORGET_US)
    end
    value = struct.pack('<ddddddd', bucket.tat, bucket.closed, bucket.strikes, bucket.rate, bucket.learned_at,
      bucket.count, bucket.since)
  end
  redis.call('SET', key, value, 'PXAT', limiter_expiry(math.max(until_us, now_us)))
end
