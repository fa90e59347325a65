-- limiter.lua: the arithmetic of one bucket. (Placed before every script that applies limits.)
--
-- GCRA with reservations. A bucket stores its theoretical arrival time (TAT): the time at which it would be full again.
-- A call may go at max(now, TAT - tolerance), and moves the TAT forward by one interval. A call that may not go yet
-- gets a reservation in the future, so that it waits only once, and in order.
--
-- A reservation is an appointment, not a permission. Jobs come late for it (the worker was down, lost, or had no free
-- slot), and the bucket may have filled up meanwhile. So the calls that were really made are counted separately, as
-- their own TAT (`spent`), and a job that comes for its reservation goes if there is room by that count. `slack` is how
-- far it may run ahead: the burst, and half of the margin. turns.lua decides who goes, strikes.lua what a 429 changes.
--
-- Stored as the TAT alone (calls for existing reservations are assumed to be made) or, if there is more to store, as
-- eleven packed doubles: TAT, closed until, consecutive 429s (strikes), learned rate, start of its growth, calls since
-- the last strike (negative: jobs that the strike refused), time of the last strike, turns (0 if no job has one, else negative:
-- the last turn that went, times 2^20, plus the number of turns after it), handed back until, the rate that was refused
-- (0: unknown), spent. Times are in microseconds on Redis's clock (exact below 2^53), rates in calls per microsecond. The fraction of
-- `strikes` is the time of the write (milliseconds, in units of 2^-42; 0 if an earlier version wrote it). The key
-- expires when it no longer has any effect, so memory is bounded by the recently active callers.
--
-- Redis's clock may go back: NTP sets it, or a failover brings another host's clock. The stored times are then in the
-- future, and no job may wait for the length of the step. A bucket that was written, or met its last 429, after now
-- proves a step: all its times are moved back by it, so that a closure keeps its remaining time. A bucket whose calls are further ahead than its rate allows proves a step too, and counts as full. Neither
-- correction lets more calls through than the limit does. A bucket with an invalid value (not a number, infinite, or
-- closed for longer than the longest accepted Retry-After) counts as empty.

-- Local names, because Redis's Lua looks up a library's function on every call by its full name.
local max, min, ceil, floor = math.max, math.min, math.ceil, math.floor
local FORGET_US, QUIET_US = 600000000, 10000000
local HISTORY_BYTES = 88
-- Calls that were made are counted a little less than reservations are (which include a margin), so that late jobs catch up.
local CATCH_UP = 0.99
local LN_2 = math.log(2)
local DOUBLING_US, CAREFUL_US, GROWTH_US, ACCELERATION_US = 5000000, 25000000, 20000000, 20000000
-- How long turns are kept after the last of their jobs was due, for workers that are away.
local KEEP_US = 10000000
-- The greatest error of a time that follows from a growing rate.
local EXACT_US = 200
-- The most turns that wait.
local TURNS = 2 ^ 20
-- The usual lateness of a call.
local JITTER_US = 5000
-- How far calls may be ahead beyond what their rate explains.
local AHEAD_US = 1000000
-- A closure lasts at most a day (the longest accepted Retry-After), and calls in flight may extend it once.
local LONGEST_CLOSURE_US = 2 * 86400000000
-- Longer than the reservations of any backlog reach.
local LONGEST_LINE_US = 366 * 86400000000
-- Maximum interval of a learned rate.
local LONGEST_INTERVAL_US = 60000000
-- Limits of valid values: a time, and the sum of a bucket's fields.
local NO_TIME, NO_SUM = 2 ^ 53, 2 ^ 57
local STAMPS = 2 ^ 42

local function limiter_now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- Returns the parameters of all buckets with one rate: microseconds between calls (0: none configured), how far calls
-- may run ahead of the rate, how far late calls may, and the position in KEYS of a shared bucket's queue (else 0).
local function limiter_rate(interval_us, tolerance_us, slack_us, queue)
  local interval, slack = tonumber(interval_us), max(slack_us, tolerance_us)
  return {
    interval = interval, tolerance = tonumber(tolerance_us), slack = slack, queue = tonumber(queue),
    ahead = 2 * slack + 3 * interval + AHEAD_US,
  }
end

-- Returns a bucket's stored form, or false if there is none. A key of another type counts as none: the next write
-- replaces it.
local function limiter_read(key)
  local raw = redis.pcall('GET', key)
  if type(raw) == 'table' then
    if string.find(raw.err, 'WRONGTYPE', 1, true) then
      return false
    end
    error(raw.err, 0)
  end
  return raw
end

-- Returns the learned rate of a bucket at a time. It grows back from the reduced rate to the refused one, and beyond it
-- faster and faster. If no rate was refused yet, it doubles.
local function limiter_grown(bucket, at_us)
  local since = max(at_us - bucket.learned_at, 0)
  if bucket.refused == 0 then
    return bucket.rate * 2 ^ (since / DOUBLING_US)
  end
  if since < CAREFUL_US then
    return bucket.rate + (bucket.refused - bucket.rate) * since / CAREFUL_US
  end
  since = since - CAREFUL_US
  return bucket.refused * (1 + since / GROWTH_US * (1 + since / ACCELERATION_US))
end

-- Returns the microseconds between calls at a time, now or in the future. The distance between reservations follows the
-- rate at their time.
local function limiter_interval(bucket, at_us)
  local own = bucket.own.interval
  if not bucket.rate or bucket.rate == 0 or at_us >= bucket.learned_at + FORGET_US then
    return own
  end
  return max(own, min(ceil(1 / limiter_grown(bucket, at_us)), LONGEST_INTERVAL_US))
end

-- Returns the calls that a learned rate lets through between its start and a time.
local function limiter_let_through(bucket, at_us)
  local since = max(at_us - bucket.learned_at, 0)
  if bucket.refused == 0 then
    return bucket.rate * DOUBLING_US / LN_2 * (2 ^ (since / DOUBLING_US) - 1)
  end
  local careful = min(since, CAREFUL_US)
  local calls = careful * (bucket.rate + (bucket.refused - bucket.rate) * careful / CAREFUL_US / 2)
  since = since - careful
  return calls + bucket.refused * since * (1 + since / GROWTH_US * (1 / 2 + since / ACCELERATION_US / 3))
end

-- Returns when so many calls will have gone after a time, at the present rate or, if that is a learned one, as it grows.
local function limiter_after(bucket, from_us, calls)
  local late = from_us + ceil(calls * bucket.interval)
  if calls == 0 or bucket.interval == bucket.own.interval then
    return late
  end
  local early = from_us + ceil(calls * bucket.own.interval)
  local wanted = limiter_let_through(bucket, from_us) + calls
  -- Rates only grow, so the time is between these two.
  for _ = 1, 30 do
    if late - early < EXACT_US then
      break
    end
    local at_us = floor((early + late) / 2)
    if limiter_let_through(bucket, at_us) < wanted then
      early = at_us
    else
      late = at_us
    end
  end
  return min(late, max(from_us, bucket.learned_at + FORGET_US))
end

-- Returns the TAT of a bucket that is stored as the TAT alone, if the value is invalid or too far ahead. It counts as
-- full, because its level before the step is unknown.
local function limiter_put_back(bucket, tat, now_us)
  if not (tat < NO_TIME) then
    return 0
  end
  local own = bucket.own
  if own.interval == 0 then
    return tat
  end
  bucket.dirty = true
  return now_us + own.tolerance + own.interval
end

-- Moves the times of a bucket that is `ahead_us` ahead of the clock to where they would be without the step back.
-- Returns nothing if the bucket is invalid.
local function limiter_put_right(bucket, ahead_us, now_us)
  if ahead_us > 0 then
    bucket.tat, bucket.spent = bucket.tat - ahead_us, bucket.spent - ahead_us
    bucket.handed, bucket.learned_at = max(bucket.handed - ahead_us, 0), max(bucket.learned_at - ahead_us, 0)
    -- 0 means none and must stay 0.
    bucket.closed = bucket.closed > 0 and max(bucket.closed - ahead_us, 1) or 0
    bucket.since = bucket.since > 0 and max(bucket.since - ahead_us, 1) or 0
  end
  if bucket.closed > now_us + LONGEST_CLOSURE_US or bucket.tat > now_us + LONGEST_LINE_US then
    return nil
  end
  bucket.learned_at = min(bucket.learned_at, bucket.closed)
  local interval = limiter_interval(bucket, now_us)
  local full = now_us + bucket.own.slack + interval
  local calls_ahead = bucket.spent - max(full, bucket.closed + bucket.own.slack)
  local ahead = calls_ahead > 2 * interval + AHEAD_US
  if ahead then
    bucket.tat, bucket.spent = bucket.tat - calls_ahead, bucket.spent - calls_ahead
  end
  bucket.handed = min(bucket.handed, full)
  -- The bucket must be written back, so that the next look measures from now.
  bucket.dirty = ahead or ahead_us > 0 or nil
  return bucket
end

-- Returns the TAT of a bucket that has no history. Returns nothing for any other bucket, which limiter_open reads.
local function limiter_plain(raw, rate, now_us)
  if not raw then
    return 0
  end
  local tat = type(raw) == 'number' and raw or #raw ~= HISTORY_BYTES and tonumber(raw)
  if tat and tat <= now_us + rate.ahead then
    return tat
  end
end

-- Returns an empty bucket. It has seven fields and `dirty`: a Lua table of eight fields, which does not grow.
local function limiter_empty(rate)
  return {tat = 0, closed = 0, since = 0, waiting = 0, interval = rate.interval, tolerance = rate.tolerance, own = rate}
end

-- Reads a bucket from its stored form: text, a number (a TAT), or false if absent.
local function limiter_open(raw, rate, now_us)
  local bucket = limiter_empty(rate)
  if not raw then
    return bucket
  end
  if type(raw) == 'number' or #raw ~= HISTORY_BYTES then
    local tat = tonumber(raw) or 0
    if not (tat <= now_us + rate.ahead) then
      tat = limiter_put_back(bucket, tat, now_us)
    end
    bucket.tat = tat
    return bucket
  end
  local tat, closed, strikes, learned, learned_at, count, since, turns, handed, refused, spent =
    struct.unpack('<ddddddddddd', raw)
  local sum = tat + closed + strikes + learned + learned_at + count + since + turns + handed + refused + spent
  if not (sum >= 0 and sum < NO_SUM) then
    return bucket
  end
  local whole = floor(strikes)
  bucket.tat, bucket.closed, bucket.strikes, bucket.rate, bucket.learned_at, bucket.count, bucket.since, bucket.handed,
    bucket.refused, bucket.spent =
    tat, closed, whole, learned, learned_at, count, since, handed, refused, spent
  if turns < 0 then
    bucket.waiting = -turns % TURNS
    bucket.gone = (-turns - bucket.waiting) / TURNS
  elseif turns > tat - rate.tolerance then
    -- The end of the line of a former version.
    tat = turns + rate.tolerance
    bucket.tat = tat
  end
  local ahead_us = max((strikes - whole) * STAMPS * 1000, since) - now_us
  if ahead_us > 0 or closed > now_us + LONGEST_CLOSURE_US or tat > now_us + LONGEST_LINE_US
    or max(spent, handed) > max(now_us, closed) + rate.ahead then
    if not limiter_put_right(bucket, ahead_us, now_us) then
      return limiter_empty(rate)
    end
  end
  bucket.interval = limiter_interval(bucket, now_us)
  if bucket.interval > rate.interval then
    bucket.tolerance = 0
  end
  if now_us > max(bucket.tat - bucket.tolerance, bucket.closed) + KEEP_US then
    -- The jobs that have turns were due long ago. They ended otherwise, or their workers are away.
    bucket.waiting, bucket.gone = 0, nil
  end
  return bucket
end

-- Returns the time from which there is room, by the calls that were really made.
local function limiter_room(bucket)
  local slack = bucket.own.slack
  if bucket.interval > bucket.own.interval then
    -- A learned rate has no burst. This much jitter is allowed, so that it costs no calls.
    slack = max(bucket.interval / 4, JITTER_US)
  end
  return (bucket.spent or bucket.tat) - slack
end

-- Returns the time at which the next call may go: now or later.
local function limiter_slot(bucket, now_us)
  local slot = now_us
  if bucket.interval > 0 then
    slot = max(slot, bucket.tat - bucket.tolerance)
    if bucket.spent then
      slot = max(slot, limiter_room(bucket))
    end
  end
  if bucket.closed > slot then
    slot = bucket.closed
  end
  return slot
end

-- Records a call that goes now. Its reservation was counted before or is for now. The count of calls since a 429 shows
-- which rate the next 429 refuses.
local function limiter_go(bucket, now_us)
  if bucket.spent then
    bucket.spent = max(bucket.spent, now_us) + ceil(CATCH_UP * bucket.interval)
    bucket.dirty = true
  end
  if bucket.since > 0 then
    bucket.count = max(bucket.count, 0) + 1
    bucket.dirty = true
  end
end

-- Counts a reservation for the time that limiter_slot returned.
local function limiter_reserve(bucket, slot_us)
  if bucket.interval > 0 then
    bucket.tat = max(bucket.tat, slot_us) + limiter_interval(bucket, slot_us)
    bucket.dirty = true
  end
end

-- Takes a call that goes now.
local function limiter_take(bucket, now_us)
  limiter_reserve(bucket, now_us)
  limiter_go(bucket, now_us)
end

-- Rounds expiries up to tenths of a second, so that one text serves many buckets.
local limiter_expiries = {}

local function limiter_expiry(us)
  local tenth = floor(us / 100000) + 1
  local text = limiter_expiries[tenth]
  if not text then
    text = string.format('%.0f', tenth * 100)
    limiter_expiries[tenth] = text
  end
  return text
end

-- Writes the bucket back if it changed. Redis formats a number argument with 17 digits, which is exact here.
local function limiter_save(key, bucket, now_us)
  if not bucket.dirty then
    return
  end
  local tat, spent, handed = bucket.tat, bucket.spent or bucket.tat, bucket.handed or 0
  local until_us, value = max(tat, spent), nil
  if bucket.closed > 0 or bucket.waiting > 0 or handed > now_us or spent ~= tat and until_us - bucket.own.slack > now_us then
    local stamp = min(floor(now_us / 1000) / STAMPS, 1 - 1 / STAMPS)
    value = struct.pack('<ddddddddddd', tat, bucket.closed, (bucket.strikes or 0) + stamp, bucket.rate or 0, bucket.learned_at or 0,
      bucket.count or 0, bucket.since, -(bucket.gone or 0) * TURNS - bucket.waiting, handed, bucket.refused or 0, spent)
    until_us = max(until_us, handed, bucket.waiting > 0 and max(tat, bucket.closed) + KEEP_US or 0)
    if bucket.closed > 0 then
      until_us = max(until_us, bucket.closed + QUIET_US)
      if bucket.rate > 0 then
        until_us = max(until_us, bucket.learned_at + FORGET_US)
      end
    end
  else
    value = until_us
  end
  redis.call('SET', key, value, 'PXAT', limiter_expiry(max(until_us, now_us)))
end
