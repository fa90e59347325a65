-- limiter.lua: the arithmetic of one bucket, written once and put before every script that limits.
--
-- GCRA with reservation. A bucket remembers its theoretical arrival time (TAT): the moment at which it would be full
-- again. A call may go at max(now, TAT - tolerance); going moves TAT on by one interval. A call that may not go yet is given
-- its own slot in the future, so it waits once and in order.
--
-- A job that comes for its slot later than does no harm (`slack`: the worker was down, or had no room) may not go together
-- with the next ones: from then on, jobs that come for their slots are lined up one interval apart, from `late` on, until
-- that line has caught up.
--
-- In a shared bucket bulk jobs reserve nothing, or a million of them would stand before the next interactive call. They
-- wait in a queue of the bucket's own, by age, and are handed back when there is room for a call: what interactive calls
-- leave. A call's worth of the burst is left to those, so that they find it at once.
--
-- A 429 closes the bucket until T: slots begin at T, one interval apart, without a burst. It also teaches (limits.learn),
-- since XCO publishes no limits: from the second 429 on the bucket has a rate, four fifths of what went through since the
-- one before or, once it has one, of the rate that was refused. It then grows, at first by 1 % of that a second, until it is
-- where it was refused after 25 s, then by 5 %, up to the configured one. What was learned is forgotten after ten minutes
-- without a 429.
--
-- Stored as the TAT alone or, where there is more to say, as nine packed doubles: TAT, closed until, strikes, learned rate,
-- learned at, calls since, since when, late until, handed back until. Times in microseconds on Redis's clock (exact below
-- 2^53), rates in calls a microsecond. Expires when it says nothing any more, so memory is bounded by the callers of that
-- time.

local FORGET_US, QUIET_US, MOST_LATE_US = 600000000, 60000000, 1000000
-- Seven doubles: as it was before `late` and `handed`.
local HISTORY_BYTES, FORMER_BYTES = 72, 56
local LEAST_RATE, DECREASE = 0.2 / 1000000, 0.8
local CAREFUL_US, CAREFUL_GROWTH, GROWTH = 25000000, 0.01 / 1000000, 0.05 / 1000000

local function limiter_now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- What all buckets of one rate share: microseconds between calls (0: none is configured), how far ahead of the rate calls
-- may run, how late a slot may be taken; and, for a shared bucket, the position of its queue in KEYS (else 0).
local function limiter_rate(interval_us, tolerance_us, slack_us, queue)
  return {
    interval = tonumber(interval_us), tolerance = tonumber(tolerance_us), slack = tonumber(slack_us),
    queue = tonumber(queue),
  }
end

-- A bucket from its stored form (false where absent). Seven fields and `dirty`: a table of eight, which does not grow.
local function limiter_open(raw, rate, now_us)
  local bucket = {
    tat = 0, closed = 0, since = 0, late = 0, interval = rate.interval, tolerance = rate.tolerance, own = rate,
  }
  if not raw then
    return bucket
  end
  if #raw == HISTORY_BYTES then
    bucket.tat, bucket.closed, bucket.strikes, bucket.rate, bucket.learned_at, bucket.count, bucket.since, bucket.late,
      bucket.handed = struct.unpack('<ddddddddd', raw)
  elseif #raw == FORMER_BYTES then
    bucket.tat, bucket.closed, bucket.strikes, bucket.rate, bucket.learned_at, bucket.count, bucket.since =
      struct.unpack('<ddddddd', raw)
  else
    bucket.tat = tonumber(raw) or 0
    return bucket
  end
  if bucket.rate > 0 and now_us < bucket.learned_at + FORGET_US then
    local since = now_us - bucket.learned_at
    local careful = math.min(since, CAREFUL_US)
    local grown = bucket.rate * (1 + CAREFUL_GROWTH * careful + GROWTH * (since - careful))
    if 1 / grown > bucket.interval then
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
  if bucket.late > slot then
    slot = bucket.late
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
  if bucket.late >= slot_us then
    bucket.late = slot_us + bucket.interval
    bucket.dirty = true
  end
  if bucket.since > 0 then
    bucket.count = bucket.count + 1
    bucket.dirty = true
  end
end

-- When a job may go that comes for the slot it was given: now, or in its turn in the line of those that came late; `again`
-- where it has stood there already.
local function limiter_claim(bucket, slot_us, again, now_us)
  local late_us = slot_us > 0 and now_us - slot_us or 0
  local punctual = late_us <= bucket.own.slack
  if bucket.interval == 0 or punctual and bucket.late <= now_us or again and late_us <= MOST_LATE_US then
    return now_us
  end
  local slot = math.max(now_us, bucket.late)
  -- A little closer than slots are, where they have a margin: so the line catches up.
  bucket.late = slot + math.ceil(0.99 * bucket.interval)
  bucket.dirty = true
  return slot
end

-- How many of at most `most` bulk jobs waiting for a shared bucket there is room for now, and when there is for the next.
local function limiter_hand_back(bucket, most, now_us)
  local open = math.max(bucket.closed, bucket.late)
  if bucket.interval == 0 then
    return open <= now_us and most or 0, open
  end
  local ahead = math.max(bucket.tolerance - bucket.interval, bucket.tolerance / 2)
  local from = math.max(bucket.tat, bucket.handed or 0, now_us)
  open = math.max(open, from - ahead)
  if open > now_us then
    return 0, open
  end
  local room = math.min(most, math.floor((now_us + ahead - from) / bucket.interval) + 1)
  bucket.handed = from + room * bucket.interval
  bucket.dirty = true
  return room, bucket.handed - ahead
end

-- From a 429: a lower rate, once there is something to tell it from.
local function limiter_learn(bucket, now_us)
  if bucket.since > 0 then
    local seen = math.max(bucket.count, 0) / math.max(now_us - bucket.since, 1000000)
    local refused = seen
    if bucket.interval > bucket.own.interval then
      -- It has a rate, and was refused at it; or at no more than half of it, where it did not come near for want of jobs.
      local current = 1 / bucket.interval
      refused = 2 * seen >= current and current or current / 2
    end
    bucket.rate = math.max(DECREASE * refused, LEAST_RATE)
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
  local until_us, value, handed = bucket.tat, bucket.tat, bucket.handed or 0
  if bucket.closed > 0 or bucket.late > now_us or handed > now_us then
    until_us = math.max(until_us, bucket.late, handed)
    if bucket.closed > 0 then
      until_us = math.max(until_us, bucket.closed + QUIET_US)
      if bucket.rate > 0 then
        until_us = math.max(until_us, bucket.learned_at + FORGET_US)
      end
    end
    value = struct.pack('<ddddddddd', bucket.tat, bucket.closed, bucket.strikes or 0, bucket.rate or 0,
      bucket.learned_at or 0, bucket.count or 0, bucket.since, bucket.late, handed)
  end
  redis.call('SET', key, value, 'PXAT', limiter_expiry(math.max(until_us, now_us)))
end
