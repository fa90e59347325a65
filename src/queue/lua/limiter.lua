-- limiter.lua: the arithmetic of one bucket, written once and put before every script that limits.
--
-- GCRA with reservation. A bucket remembers its theoretical arrival time (TAT): the moment at which it would be full
-- again. A call may go at max(now, TAT - tolerance), where tolerance = interval * (burst - 1); going moves TAT on by one
-- interval. A call that may not go yet is given its own slot in the future, so it waits once and in order.
-- A 429 closes the bucket until T: slots begin at T, one interval apart, without a burst.
--
-- Stored as "TAT", or "TAT:closed_until:strikes" after a 429; all times in microseconds on Redis's clock (below 2^53).
-- Expires soon after it would be full again (and any closure is forgotten), so memory is bounded by the callers of that time.

local function limiter_now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- A bucket from its stored form (false where absent), with this caller's rate: interval 0 is no rate of its own.
local function limiter_open(raw, interval_us, burst)
  local bucket = {tat = 0, closed = 0, strikes = 0, interval = interval_us, tolerance = interval_us * (burst - 1)}
  if raw then
    local tat = tonumber(raw)
    if tat then
      bucket.tat = tat
    else
      local a, b, c = string.match(raw, '^(%d+):(%d+):(%d+)$')
      if a then
        bucket.tat, bucket.closed, bucket.strikes = tonumber(a), tonumber(b), tonumber(c)
      end
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
end

-- Closes the bucket: until now + retry_after_us where XCO named a delay, else for 1 s, 2 s, 4 s … up to 60 s while 429s
-- follow each other (a quiet minute after a closure starts over). Never shortens a closure.
local function limiter_close(bucket, now_us, retry_after_us)
  if now_us > bucket.closed + 60000000 then
    bucket.strikes = 0
  end
  -- 429s of calls that were under way together are one strike: the closure already answers them.
  if now_us >= bucket.closed then
    bucket.strikes = math.min(bucket.strikes + 1, 30)
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
  local full_at, value = bucket.tat, bucket.tat
  if bucket.closed > 0 and bucket.closed + 60000000 > now_us then
    value = string.format('%.0f:%.0f:%d', bucket.tat, bucket.closed, bucket.strikes)
    full_at = math.max(full_at, bucket.closed + 60000000)
  end
  redis.call('SET', key, value, 'PXAT', limiter_expiry(math.max(full_at, now_us)))
end
