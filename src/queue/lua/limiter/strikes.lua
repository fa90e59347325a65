-- strikes.lua: what a 429 changes in a bucket. (Placed after limiter.lua and turns.lua.)
--
-- A 429 closes the bucket until T. Reservations then start at T, one interval apart, without a burst. The bucket also
-- learns a rate (limits.learn), because XCO publishes no limits. The first 429 sets a rate that is high enough to do no
-- harm if the 429 was an exception: 200 calls per second, doubling every 5 s. A later 429 reduces the current rate to
-- four fifths, if that rate was used. It then grows back to the refused rate within 25 s, and beyond it faster and
-- faster (as in CUBIC, RFC 9438, for the same reasons). If far fewer calls went through, half of the current rate is
-- tried: it doubles every 5 s if no used rate was ever refused, else it grows as before. The rate never exceeds the
-- configured one, and is forgotten after ten minutes without a 429. The distance between two future reservations
-- follows the rate at their time, so a waiting job is not bound to the rate at the time of its arrival.

-- Rates in calls per microsecond; the part of a rate that is left after a 429; and how much of it must have been used.
local LEAST_RATE, FIRST_RATE, DECREASE, USED = 0.2 / 1000000, 200 / 1000000, 0.8, 0.7

-- Sets a lower rate after a 429.
local function limiter_learn(bucket, now_us)
  if bucket.since == 0 or now_us >= bucket.learned_at + FORGET_US then
    bucket.rate, bucket.refused = FIRST_RATE, 0
    return
  end
  local seen = max(bucket.count - 1, 0) / max(now_us - max(bucket.since, bucket.closed), 1000000)
  local current = bucket.interval > 0 and 1 / bucket.interval or seen
  if seen >= USED * min(bucket.rate, current) then
    bucket.rate, bucket.refused = DECREASE * current, current
  elseif bucket.refused > 0 then
    -- XCO's limit was reduced, or other programs use part of it.
    bucket.rate, bucket.refused = current / 2, DECREASE * current
  else
    -- The rate is still much too high, or was hardly used. The right rate is unknown.
    bucket.rate, bucket.refused = current / 2, 0
  end
  bucket.rate = max(bucket.rate, LEAST_RATE)
end

-- Closes the bucket. If XCO named a delay, it closes for that time (at least one second, because delays are whole
-- seconds). Otherwise it closes for 1 s, 2 s, 4 s … up to 60 s with consecutive 429s, and starts again after ten quiet
-- seconds. A closure is never shortened.
local function limiter_close(bucket, now_us, retry_after_us, learn)
  if not bucket.strikes then
    bucket.strikes, bucket.rate, bucket.learned_at, bucket.count, bucket.refused = 0, 0, 0, 0, 0
  end
  if now_us > bucket.closed + QUIET_US then
    bucket.strikes = 0
  end
  -- 429s of calls that were in flight together are one strike, because the closure already answers them.
  if now_us >= bucket.closed then
    bucket.strikes = min(bucket.strikes + 1, 30)
    if learn then
      limiter_learn(bucket, now_us)
    end
    bucket.since, bucket.count = now_us, 0
  end
  local delay = max(retry_after_us, 1000000)
  if retry_after_us < 0 then
    delay = min(1000000 * 2 ^ (bucket.strikes - 1), 60000000)
  end
  if now_us + delay > bucket.closed then
    if bucket.waiting > 0 then
      -- All who wait come later by as much, and new jobs come behind them.
      bucket.tat = bucket.tat + now_us + delay - max(bucket.closed, now_us)
    end
    bucket.closed = now_us + delay
  end
  if bucket.rate > 0 then
    bucket.learned_at = bucket.closed
    bucket.interval = limiter_interval(bucket, now_us)
    if bucket.interval > bucket.own.interval then
      bucket.tolerance = 0
    end
  end
  bucket.tat = max(bucket.tat, bucket.closed + bucket.tolerance)
  if bucket.spent then
    bucket.spent = max(bucket.spent, bucket.closed + bucket.tolerance)
  end
  bucket.dirty = true
end

-- Returns when a job may come again whose call a 429 refused, after limiter_close. Its turn is AGAIN.
local function limiter_refuse(bucket, now_us)
  local slot = max(now_us, bucket.closed)
  if bucket.interval > 0 then
    slot = limiter_due(bucket, slot - min(bucket.count, 0) * bucket.interval)
  end
  bucket.count = min(bucket.count, 0) - 1
  limiter_again(bucket)
  bucket.dirty = true
  return slot
end
