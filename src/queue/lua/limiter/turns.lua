-- turns.lua: who may call now, of the jobs that use one bucket. (Placed after limiter.lua, before scripts that let jobs go.)
--
-- Times alone do not keep a caller's order, because late jobs move them. So each job with a reservation also has a turn, a
-- number. A job may go when there is room for it and for the jobs of earlier turns that have not gone yet, or else it waits
-- until then and keeps its turn. Whatever makes one job later (a late worker, a 429, a lower rate) thus makes all jobs
-- behind it later by as much. A turn whose job never comes costs one interval. A new job gets a turn behind the others, too,
-- while one of them is still on its way.
--
-- In a shared bucket, bulk jobs make no reservations, because a million of them would then be ahead of the next
-- interactive call. They wait in the bucket's own queue, by age, and are handed back when there is room for a call that
-- interactive calls do not need. One call's worth of the burst is kept free for interactive calls, so that they find it
-- at once.

-- The shortest interval with which new jobs stay behind a job that is due and on its way to its call. With many calls a
-- second, some are always on their way.
local ORDERED_US = 5000
-- The first turn and the last, and what jobs have that had their turn and come again. They go before all turns, and `gone`
-- counts down for each.
local FIRST_TURN, LAST_TURN, AGAIN = 2 ^ 20, 2 ^ 30, 1

-- Returns the time at which all jobs with a turn could have gone.
local function limiter_horizon(bucket)
  if bucket.interval == 0 then
    return bucket.closed
  end
  return max(bucket.closed, limiter_after(bucket, (bucket.spent or bucket.tat) - bucket.tolerance, bucket.waiting))
end

-- Returns the same as limiter_slot for a bulk job in a shared bucket, which goes after the jobs that have a turn.
local function limiter_bulk_slot(bucket, now_us)
  local slot = limiter_slot(bucket, now_us)
  return bucket.waiting > 0 and max(slot, limiter_horizon(bucket)) or slot
end

-- Gives up the turns of jobs that could all have gone and did not come (limiter_horizon), for a bulk job that goes now. Each
-- would otherwise cost every bulk job an interval. A job that comes later goes as soon as there is room. Without a rate
-- turns cost nothing.
local function limiter_give_up(bucket)
  if bucket.waiting > 0 and bucket.interval > 0 then
    bucket.waiting, bucket.gone, bucket.dirty = 0, nil, true
  end
end

-- Takes a call in a shared bucket that goes now, for a bulk job at the time of limiter_bulk_slot.
local function limiter_take_bulk(bucket, now_us)
  limiter_give_up(bucket)
  limiter_take(bucket, now_us)
end

-- Whether a new job must stay behind jobs that have turns, even where there is room. If those do not come, because they
-- ended otherwise, that costs it a few milliseconds, and the turns end with its own.
local function limiter_awaits(bucket)
  return bucket.waiting > 0 and (bucket.interval == 0 or bucket.interval >= ORDERED_US)
end

-- Decides about a new job. Returns now if it goes, else the time to come again and its turn. `must_wait` gives it a turn in
-- any case.
local function limiter_enter(bucket, now_us, must_wait)
  local slot = limiter_slot(bucket, now_us)
  if slot <= now_us and not must_wait and not limiter_awaits(bucket) then
    limiter_take(bucket, now_us)
    return slot
  end
  -- Its call is made later, so only the reservation is counted now.
  if bucket.interval > 0 then
    bucket.spent = bucket.spent or bucket.tat
  end
  limiter_reserve(bucket, slot)
  bucket.waiting, bucket.gone = min(bucket.waiting + 1, TURNS - 1), bucket.gone or FIRST_TURN
  bucket.dirty = true
  return slot, bucket.gone + bucket.waiting
end

-- Counts a job that comes again, which goes before all turns.
local function limiter_again(bucket)
  if bucket.waiting < TURNS - 1 then
    bucket.gone, bucket.waiting = (bucket.gone or FIRST_TURN) - 1, bucket.waiting + 1
  end
end

-- Counts the time that a job with a turn was given. New jobs come behind it. Returns the time.
local function limiter_due(bucket, slot_us)
  if bucket.interval > 0 then
    bucket.tat = max(bucket.tat, slot_us + bucket.tolerance + bucket.interval)
  end
  return slot_us
end

-- Returns when a job with this turn (0: a former version gave it none) may go: now, or later and its turn then.
local function limiter_claim(bucket, turn, now_us)
  -- A bucket without turns, because all have gone or it was lost, takes the turn that comes for the next.
  local gone = bucket.gone or turn > AGAIN and turn < LAST_TURN and turn - 1 or FIRST_TURN
  local last = gone + bucket.waiting
  local is_known = turn > gone and turn <= last + 1
  local before, slot, early = is_known and turn - gone - 1 or 0, 0, 0
  if bucket.interval > 0 then
    local tat = bucket.spent or bucket.tat
    slot = limiter_after(bucket, tat - bucket.tolerance, before)
    early = tat - bucket.tolerance - limiter_room(bucket)
  end
  bucket.dirty = true
  if max(bucket.closed, slot - early) > now_us then
    bucket.gone = gone
    if is_known then
      bucket.waiting = min(max(turn, last) - gone, TURNS - 1)
      return limiter_due(bucket, max(bucket.closed, slot)), turn
    elseif turn ~= AGAIN or bucket.waiting == 0 then
      -- Others went meanwhile.
      limiter_again(bucket)
    end
    -- Several may come at the same time.
    bucket.behind = (bucket.behind or -1) + 1
    return limiter_due(bucket, limiter_after(bucket, max(bucket.closed, slot), bucket.behind)), AGAIN
  end
  if is_known then
    gone = turn
  elseif turn == AGAIN then
    gone = gone + 1
  end
  bucket.waiting = max(last - gone, 0)
  bucket.gone = bucket.waiting > 0 and gone < LAST_TURN and gone or nil
  if bucket.interval > 0 then
    bucket.spent = bucket.spent or bucket.tat
  end
  limiter_go(bucket, now_us)
  return now_us
end

-- Returns for how many of at most `most` bulk jobs in a shared bucket's queue there is room now, and when there is room
-- for the next.
local function limiter_hand_back(bucket, most, now_us)
  local open = max(bucket.closed, bucket.spent and limiter_room(bucket) or 0)
  if bucket.interval == 0 then
    return open <= now_us and most or 0, open
  end
  local ahead = max(bucket.tolerance - bucket.interval, bucket.tolerance / 2)
  local from = max(bucket.tat, bucket.handed or 0, now_us)
  if bucket.waiting > 0 then
    from = max(from, limiter_horizon(bucket) + bucket.tolerance)
  end
  open = max(open, from - ahead)
  if open > now_us then
    return 0, open
  end
  limiter_give_up(bucket)
  local room = min(most, floor((now_us + ahead - from) / bucket.interval) + 1)
  bucket.handed = from + room * bucket.interval
  bucket.dirty = true
  return room, bucket.handed - ahead
end
