-- limiter.lua: the arithmetic of one bucket. (Placed before every script that applies limits.)
--
-- GCRA with reservations. A bucket stores its theoretical arrival time (TAT): the time at which it would be full again.
-- A call may go at max(now, TAT - tolerance), and moves the TAT forward by one interval. A call that may not go yet
-- gets a reservation in the future, so that it waits only once, and in order.
--
-- A reservation is an appointment, not a permission. Jobs come late for it (the worker was down, lost, or had no free
-- slot), and the bucket may have filled up meanwhile. So the calls that were really made are counted separately, as
-- their own TAT (`spent`), and a job that comes for its reservation goes if there is room by that count. `slack` is how
-- far it may run ahead: the burst, and half of the margin. Jobs that find no room form a line, one interval apart,
-- starting at `late`. While the line exists, all other jobs go behind it. A 429 invalidates every earlier reservation:
-- a job that comes for one joins the line too.
--
-- In a shared bucket, bulk jobs make no reservations, because a million of them would then be ahead of the next
-- interactive call. They wait in the bucket's own queue, by age, and are handed back when there is room for a call that
-- interactive calls do not need. One call's worth of the burst is kept free for interactive calls, so that they find it
-- at once.
--
-- A 429 closes the bucket until T. Reservations then start at T, one interval apart, without a burst. The bucket also
-- learns a rate (limits.learn), because XCO publishes no limits. The first 429 sets a rate that is high enough to do no
-- harm if the 429 was an exception: 200 calls per second, doubling every 5 s. A later 429 reduces the current rate to
-- four fifths, if that rate was used. It then grows back to the refused rate within 25 s, and beyond it faster and
-- faster (as in CUBIC, RFC 9438, for the same reasons). If far fewer calls went through, half of the current rate is
-- tried: it doubles every 5 s if no used rate was ever refused, else it grows as before. The rate never exceeds the
-- configured one, and is forgotten after ten minutes without a 429. The distance between two future reservations
-- follows the rate at their time, so a waiting job is not bound to the rate at the time of its arrival.
--
-- Stored as the TAT alone (calls for existing reservations are assumed to be made) or, if there is more to store, as
-- eleven packed doubles: TAT, closed until, consecutive 429s (strikes), learned rate, start of its growth, calls since
-- the last strike, time of the last strike, late until, handed back until, the rate that was refused (0: unknown),
-- spent. Times are in microseconds on Redis's clock (exact below 2^53), rates in calls per microsecond. The fraction of
-- `strikes` is the time of the write (milliseconds, in units of 2^-42; 0 if an earlier version wrote it). The key
-- expires when it no longer has any effect, so memory is bounded by the recently active callers.
--
-- Redis's clock may go back: NTP sets it, or a failover brings another host's clock. The stored times are then in the
-- future, and no job may wait for the length of the step. A bucket that was written, or met its last 429, after now
-- proves a step: all its times are moved back by it, so that a line keeps its order and a closure keeps its remaining
-- time. A bucket whose calls are further ahead than its rate allows proves a step too, and counts as full. Neither
-- correction lets more calls through than the limit does. A bucket with an invalid value (not a number, infinite, or
-- closed for longer than the longest accepted Retry-After) counts as empty.

-- Local names, because Redis's Lua looks up a library's function on every call by its full name.
local max, min, ceil, floor = math.max, math.min, math.ceil, math.floor
local FORGET_US, QUIET_US = 600000000, 10000000
local HISTORY_BYTES = 88
local LEAST_RATE, FIRST_RATE, DECREASE, USED = 0.2 / 1000000, 200 / 1000000, 0.8, 0.7
-- Jobs in a line are spaced a little closer than reservations are (which include a margin), so that the line catches
-- up.
local CATCH_UP = 0.99
local DOUBLING_US, CAREFUL_US, GROWTH_US, ACCELERATION_US = 5000000, 25000000, 20000000, 20000000
-- The job that received a 429 is recorded as waiting from slightly before the strike, because its worker estimates
-- Redis's clock.
local CLOCK_US = 50000
-- The usual lateness of a call.
local JITTER_US = 5000
-- How far calls may be ahead beyond what their rate explains.
local AHEAD_US = 1000000
-- A closure lasts at most a day (the longest accepted Retry-After), and calls in flight may extend it once.
local LONGEST_CLOSURE_US = 2 * 86400000000
-- Longer than any line of jobs can be.
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
    bucket.tat, bucket.spent, bucket.late = bucket.tat - ahead_us, bucket.spent - ahead_us, max(bucket.late - ahead_us, 0)
    bucket.handed, bucket.learned_at = max(bucket.handed - ahead_us, 0), max(bucket.learned_at - ahead_us, 0)
    -- 0 means none and must stay 0.
    bucket.closed = bucket.closed > 0 and max(bucket.closed - ahead_us, 1) or 0
    bucket.since = bucket.since > 0 and max(bucket.since - ahead_us, 1) or 0
  end
  if bucket.closed > now_us + LONGEST_CLOSURE_US or max(bucket.tat, bucket.late) > now_us + LONGEST_LINE_US then
    return nil
  end
  bucket.learned_at = min(bucket.learned_at, bucket.closed)
  local interval = limiter_interval(bucket, now_us)
  local full = now_us + bucket.own.slack + interval
  local calls_ahead = bucket.spent - max(full, bucket.closed + bucket.own.slack)
  local ahead = calls_ahead > 2 * interval + AHEAD_US
  if ahead then
    bucket.tat, bucket.spent, bucket.late = bucket.tat - calls_ahead, bucket.spent - calls_ahead, max(bucket.late - calls_ahead, 0)
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

-- Reads a bucket from its stored form: text, a number (a TAT), or false if absent. It has seven fields and `dirty`: a Lua
-- table of eight fields, which does not grow.
local function limiter_open(raw, rate, now_us)
  local bucket = {
    tat = 0, closed = 0, since = 0, late = 0, interval = rate.interval, tolerance = rate.tolerance, own = rate,
  }
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
  local tat, closed, strikes, learned, learned_at, count, since, late, handed, refused, spent =
    struct.unpack('<ddddddddddd', raw)
  local sum = tat + closed + strikes + learned + learned_at + count + since + late + handed + refused + spent
  if not (sum >= 0 and sum < NO_SUM) then
    return bucket
  end
  local whole = floor(strikes)
  bucket.tat, bucket.closed, bucket.strikes, bucket.rate, bucket.learned_at, bucket.count, bucket.since, bucket.late,
    bucket.handed, bucket.refused, bucket.spent =
    tat, closed, whole, learned, learned_at, count, since, late, handed, refused, spent
  local ahead_us = max((strikes - whole) * STAMPS * 1000, since) - now_us
  if ahead_us > 0 or closed > now_us + LONGEST_CLOSURE_US or max(tat, late) > now_us + LONGEST_LINE_US
    or max(spent, handed) > max(now_us, closed) + rate.ahead then
    if not limiter_put_right(bucket, ahead_us, now_us) then
      return {
        tat = 0, closed = 0, since = 0, late = 0, interval = rate.interval, tolerance = rate.tolerance, own = rate,
      }
    end
  end
  bucket.interval = limiter_interval(bucket, now_us)
  if bucket.interval > rate.interval then
    bucket.tolerance = 0
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
  if bucket.late > slot then
    slot = bucket.late
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
    bucket.count = bucket.count + 1
    bucket.dirty = true
  end
end

-- Takes the time that limiter_slot returned.
local function limiter_take(bucket, slot_us, now_us)
  if bucket.interval > 0 then
    if slot_us > now_us then
      bucket.spent = bucket.spent or bucket.tat
    end
    bucket.tat = max(bucket.tat, slot_us) + limiter_interval(bucket, slot_us)
    bucket.dirty = true
  end
  if bucket.late >= slot_us then
    bucket.late = slot_us + limiter_interval(bucket, slot_us)
    bucket.dirty = true
  end
  if slot_us <= now_us then
    limiter_go(bucket, now_us)
  end
end

-- Returns the next time in the line of jobs that found no room or whose reservation a 429 invalidated.
local function limiter_line_up(bucket, now_us)
  local slot = max(now_us, bucket.late, bucket.closed)
  if bucket.interval > 0 then
    slot = max(slot, limiter_room(bucket))
  end
  bucket.late = slot + ceil(CATCH_UP * limiter_interval(bucket, slot))
  bucket.dirty = true
  return slot
end

-- Returns when a job may go that comes for the reservation made at `given_us`: now, or its turn in the line. `given_as`
-- is how it was made: 'r' as asked for, 'l' in the line, '4' by a 429 of the job's own call.
local function limiter_claim(bucket, given_as, given_us, now_us)
  local outdated = given_us + (given_as == '4' and CLOCK_US or 0) < bucket.since
  local stood_in_line = given_as ~= 'r'
  local slot, room = now_us, bucket.interval > 0 and limiter_room(bucket) or now_us
  if stood_in_line and bucket.own.tolerance == 0 then
    -- Without a burst, the margin is a few milliseconds. All of it is allowed, or jobs in the line would leave it again
    -- and again.
    room = room - bucket.own.slack
  end
  if outdated or bucket.closed > now_us or not stood_in_line and bucket.late > now_us then
    slot = limiter_line_up(bucket, now_us)
  elseif stood_in_line and room <= now_us + JITTER_US then
    -- The call before it was slightly late. The job keeps its place.
    slot = max(now_us, ceil(room))
  elseif room > now_us then
    slot = limiter_line_up(bucket, now_us)
  end
  if slot <= now_us then
    if bucket.interval > 0 then
      bucket.spent = bucket.spent or bucket.tat
    end
    limiter_go(bucket, now_us)
  end
  return slot
end

-- Returns for how many of at most `most` bulk jobs in a shared bucket's queue there is room now, and when there is room
-- for the next.
local function limiter_hand_back(bucket, most, now_us)
  local open = max(bucket.closed, bucket.late, bucket.spent and limiter_room(bucket) or 0)
  if bucket.interval == 0 then
    return open <= now_us and most or 0, open
  end
  local ahead = max(bucket.tolerance - bucket.interval, bucket.tolerance / 2)
  local from = max(bucket.tat, bucket.handed or 0, now_us)
  open = max(open, from - ahead)
  if open > now_us then
    return 0, open
  end
  local room = min(most, floor((now_us + ahead - from) / bucket.interval) + 1)
  bucket.handed = from + room * bucket.interval
  bucket.dirty = true
  return room, bucket.handed - ahead
end

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
    -- Earlier reservations are now invalid. Their jobs get new ones, in a new line.
    bucket.since, bucket.count, bucket.late = now_us, 0, 0
  end
  local delay = max(retry_after_us, 1000000)
  if retry_after_us < 0 then
    delay = min(1000000 * 2 ^ (bucket.strikes - 1), 60000000)
  end
  if now_us + delay > bucket.closed then
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
  if bucket.closed > 0 or bucket.late > now_us or handed > now_us or spent ~= tat and until_us - bucket.own.slack > now_us then
    local stamp = min(floor(now_us / 1000) / STAMPS, 1 - 1 / STAMPS)
    value = struct.pack('<ddddddddddd', tat, bucket.closed, (bucket.strikes or 0) + stamp, bucket.rate or 0, bucket.learned_at or 0,
      bucket.count or 0, bucket.since, bucket.late, handed, bucket.refused or 0, spent)
    until_us = max(until_us, bucket.late, handed)
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
