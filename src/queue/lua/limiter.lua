-- limiter.lua: the arithmetic of one bucket, written once and put before every script that limits.
--
-- GCRA with reservation. A bucket remembers its theoretical arrival time (TAT): the moment at which it would be full
-- again. A call may go at max(now, TAT - tolerance); going moves TAT on by one interval. A call that may not go yet is given
-- its own slot in the future, so it waits once and in order.
--
-- A slot is an appointment, not a permission: jobs come late for theirs (the worker was down, lost, or had no room), and the
-- bucket may have filled up meanwhile. So what was really called is counted beside, as the TAT of those calls alone (`spent`),
-- and who comes for a slot goes if that leaves room; `slack` is by how much it may run ahead: the burst, and half of the margin.
-- Without room jobs are lined up one interval apart, from `late` on, and as long as that line lasts all others go behind it.
-- A 429 makes every slot given before it worthless: whoever comes for one is lined up, too.
--
-- In a shared bucket bulk jobs reserve nothing, or a million of them would stand before the next interactive call. They
-- wait in a queue of the bucket's own, by age, and are handed back when there is room for a call: what interactive calls
-- leave. A call's worth of the burst is left to those, so that they find it at once.
--
-- A 429 closes the bucket until T: slots begin at T, one interval apart, without a burst. It also teaches (limits.learn),
-- since XCO publishes no limits. The first sets a rate that is high enough to do no harm where it was a whim: 200 calls a
-- second, doubling every 5 s. One that follows lowers the rate in use to four fifths, if it was used: it then grows back to
-- where it was refused within 25 s and, from there, faster and faster (as CUBIC does, RFC 9438, for the same reasons). If
-- much less went through, half of it is tried: doubling every 5 s while no rate was ever refused that was used, else growing
-- as before. Never above the configured rate; forgotten after ten minutes without a 429. A slot to come is as far from the
-- one before as the rate has it by then: what waits is not bound to the rate of the day it came.
--
-- Stored as the TAT alone (slots that were given are taken to be called) or, where there is more to say, as eleven packed
-- doubles: TAT, closed until, strikes, learned rate, from when it grows, calls since the last strike, when that was, late until,
-- handed back until, the rate it was refused at (0: unknown), spent. Times in microseconds on Redis's clock (exact below 2^53),
-- rates in calls a microsecond. The fraction of `strikes` is when this was written (milliseconds, in units of 2^-42; 0 where a
-- version before wrote it). Expires when it says nothing any more, so memory is bounded by the callers of that time.
--
-- Redis's clock may go back: NTP sets it, or a failover brings another host's. What is stored then lies ahead, and nobody may
-- wait for the length of the step. A bucket that was written, or met its last 429, after now proves a step: all its times are
-- moved by it, so that a line keeps its order and a closure what is left of it. A bucket of calls that lies further ahead than
-- its rate allows proves one, too: it counts as full. Neither lets more calls through than the limit does.
-- A bucket that cannot be read (no number, infinite, closed for longer than any Retry-After that is believed) is an empty one.

-- Redis's Lua looks up a library's function each time it is named so.
local max, min, ceil, floor = math.max, math.min, math.ceil, math.floor
local FORGET_US, QUIET_US = 600000000, 10000000
local HISTORY_BYTES = 88
local LEAST_RATE, FIRST_RATE, DECREASE, USED = 0.2 / 1000000, 200 / 1000000, 0.8, 0.7
-- Jobs in a line are a little closer than slots are, where those have a margin: so the line catches up.
local CATCH_UP = 0.99
local DOUBLING_US, CAREFUL_US, GROWTH_US, ACCELERATION_US = 5000000, 25000000, 20000000, 20000000
-- A 429's own job is told to wait a moment before the strike, by the worker's idea of Redis's clock.
local CLOCK_US = 50000
-- What a call is late as a rule.
local JITTER_US = 5000
-- Calls lie ahead by no more than their rate explains and this.
local AHEAD_US = 1000000
-- A closure lasts a day at most (the longest Retry-After that is believed), and calls under way may prolong it once.
local LONGEST_CLOSURE_US = 2 * 86400000000
-- No line of jobs is as long.
local LONGEST_LINE_US = 366 * 86400000000
-- A learned rate is never as low.
local LONGEST_INTERVAL_US = 60000000
-- Numbers from here on are no times, nor are sums of a bucket's fields from there on.
local NO_TIME, NO_SUM = 2 ^ 53, 2 ^ 57
local STAMPS = 2 ^ 42

local function limiter_now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- What all buckets of one rate share: microseconds between calls (0: none is configured), how far ahead of the rate calls
-- may run, and how far if they come late; and, for a shared bucket, the position of its queue in KEYS (else 0).
local function limiter_rate(interval_us, tolerance_us, slack_us, queue)
  local interval, slack = tonumber(interval_us), max(slack_us, tolerance_us)
  return {
    interval = interval, tolerance = tonumber(tolerance_us), slack = slack, queue = tonumber(queue),
    ahead = 2 * slack + 3 * interval + AHEAD_US,
  }
end

-- A bucket's stored form, false where there is none. A key of another type is none: the next write replaces it.
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

-- The rate that a bucket which learned one has at a moment: from the rate it fell to back to the one that was refused, then on
-- ever faster; before any was refused, doubling.
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

-- Microseconds between calls at a moment, now or to come: a slot is as far from the one before as the rate has it by then.
local function limiter_interval(bucket, at_us)
  local own = bucket.own.interval
  if not bucket.rate or bucket.rate == 0 or at_us >= bucket.learned_at + FORGET_US then
    return own
  end
  return max(own, min(ceil(1 / limiter_grown(bucket, at_us)), LONGEST_INTERVAL_US))
end

-- The TAT of a bucket that is stored as that alone, where it is no time or lies too far ahead: full, since how full it was
-- before the step is not known.
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

-- Moves a bucket that lies `ahead_us` ahead of the clock to where it would be, had the clock not been put back. Nothing where
-- it cannot be read.
local function limiter_put_right(bucket, ahead_us, now_us)
  if ahead_us > 0 then
    bucket.tat, bucket.spent, bucket.late = bucket.tat - ahead_us, bucket.spent - ahead_us, max(bucket.late - ahead_us, 0)
    bucket.handed, bucket.learned_at = max(bucket.handed - ahead_us, 0), max(bucket.learned_at - ahead_us, 0)
    -- None is none still.
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
  -- Written back: the next look is to find what is left from now on, not from then on.
  bucket.dirty = ahead or ahead_us > 0 or nil
  return bucket
end

-- A bucket from its stored form (false where absent). Seven fields and `dirty`: a table of eight, which does not grow.
local function limiter_open(raw, rate, now_us)
  local bucket = {
    tat = 0, closed = 0, since = 0, late = 0, interval = rate.interval, tolerance = rate.tolerance, own = rate,
  }
  if not raw then
    return bucket
  end
  if #raw ~= HISTORY_BYTES then
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

-- From when on there is room, by the calls that were really made.
local function limiter_room(bucket)
  local slack = bucket.own.slack
  if bucket.interval > bucket.own.interval then
    -- A learned rate has no burst. As much as this jitter costs no call.
    slack = max(bucket.interval / 4, JITTER_US)
  end
  return (bucket.spent or bucket.tat) - slack
end

-- The moment at which the next call may go: now, or later.
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

-- A call goes, whose slot was counted before or is now. What a bucket that met a 429 let through tells the rate that a next
-- one refuses.
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

-- Takes the slot that limiter_slot gave.
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

-- The next slot in the line of those that found no room or were overtaken by a 429.
local function limiter_line_up(bucket, now_us)
  local slot = max(now_us, bucket.late, bucket.closed)
  if bucket.interval > 0 then
    slot = max(slot, limiter_room(bucket))
  end
  bucket.late = slot + ceil(CATCH_UP * limiter_interval(bucket, slot))
  bucket.dirty = true
  return slot
end

-- When a job may go that comes for the slot it was given at `given_us`: now, or in its turn in the line. `given_as` is how that
-- was: 'r' as it asked for one, 'l' in the line, '4' by a 429 of its own.
local function limiter_claim(bucket, given_as, given_us, now_us)
  local outdated = given_us + (given_as == '4' and CLOCK_US or 0) < bucket.since
  local stood_in_line = given_as ~= 'r'
  local slot, room = now_us, bucket.interval > 0 and limiter_room(bucket) or now_us
  if stood_in_line and bucket.own.tolerance == 0 then
    -- Without a burst the margin is a few milliseconds: all of it, or those in line would step out again and again.
    room = room - bucket.own.slack
  end
  if outdated or bucket.closed > now_us or not stood_in_line and bucket.late > now_us then
    slot = limiter_line_up(bucket, now_us)
  elseif stood_in_line and room <= now_us + JITTER_US then
    -- The call before it was a little late: it keeps its place.
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

-- How many of at most `most` bulk jobs waiting for a shared bucket there is room for now, and when there is for the next.
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

-- From a 429: a lower rate.
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
    -- It is less than it was, or others spend of it.
    bucket.rate, bucket.refused = current / 2, DECREASE * current
  else
    -- Still much too high, or hardly used: what is right is not known.
    bucket.rate, bucket.refused = current / 2, 0
  end
  bucket.rate = max(bucket.rate, LEAST_RATE)
end

-- Closes the bucket: until now + retry_after_us where XCO named a delay (a second at least: it comes in whole ones), else
-- for 1 s, 2 s, 4 s … up to 60 s while 429s follow each other (ten quiet seconds after a closure start over). Never shortens
-- a closure.
local function limiter_close(bucket, now_us, retry_after_us, learn)
  if not bucket.strikes then
    bucket.strikes, bucket.rate, bucket.learned_at, bucket.count, bucket.refused = 0, 0, 0, 0, 0
  end
  if now_us > bucket.closed + QUIET_US then
    bucket.strikes = 0
  end
  -- 429s of calls that were under way together are one strike: the closure already answers them.
  if now_us >= bucket.closed then
    bucket.strikes = min(bucket.strikes + 1, 30)
    if learn then
      limiter_learn(bucket, now_us)
    end
    -- Slots that were given before are so no more: who holds one gets another, in a line that begins anew.
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

-- Expiry is told in whole tenths of a second, after the moment itself, so that the text of it is made once for many buckets.
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

-- Writes the bucket back where it changed. Redis writes a number as an argument with 17 digits: exact here.
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
