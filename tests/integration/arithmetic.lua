-- Plays a bucket of limiter.lua (which stands before this text) through time, in steps of 1 ms, without waiting for it.
--
-- ARGV  1 seed · 2 interval, 3 tolerance and 4 slack in us, as the worker has them · 5 interval and 6 tolerance in us, as XCO has
--       them · 7 bulk jobs that wait · 8 interactive arrivals a 1,000 ms · 9 the longest a worker is late, in ms · 10 when
--       workers stop for 2 s, in ms (0: never)
-- Returns  {calls, calls beyond XCO's limit, bulk jobs called, ms until the last was, the longest an interactive call waited
--       more than it would have without bulk (us), the most looks at one interactive job, calls out of order}

math.randomseed(tonumber(ARGV[1]))
local rate = limiter_rate(ARGV[2], ARGV[3], ARGV[4], 1)
local their_interval, their_tolerance = tonumber(ARGV[5]), tonumber(ARGV[6])
local bulk, arrivals, most_late, stop_at = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local START = 1700000000000000
local shared, alone = limiter_open(false, rate, START), limiter_open(false, rate, START)
local theirs, calls, beyond = 0, 0, 0
local called, last_bulk, most_wait, most_looks, out_of_order, last_number = 0, 0, 0, 0, 0, 0
local parked, on_the_way, numbers = {}, {}, 0

local function reopen(bucket, now)
  -- As through Redis: what is over is forgotten.
  bucket.interval, bucket.tolerance = rate.interval, rate.tolerance
  return bucket
end

local function call(now)
  calls = calls + 1
  if theirs - their_tolerance > now then
    beyond = beyond + 1
  end
  theirs = math.max(theirs, now) + their_interval
end

local function interactive(job, now)
  job.looks = job.looks + 1
  local slot
  if job.slot then
    slot = limiter_claim(shared, job.slot, job.late, now, now)
    job.late = slot > now
  else
    slot = limiter_slot(shared, now)
    limiter_take(shared, slot, now)
  end
  if slot > now then
    job.slot = slot
    job.at = math.ceil((slot - START) / 1000) + math.random(0, most_late)
    parked[#parked + 1] = job
    return
  end
  call(now)
  most_wait = math.max(most_wait, now - job.alone)
  most_looks = math.max(most_looks, job.looks)
  if job.number < last_number then
    out_of_order = out_of_order + 1
  end
  last_number = job.number
end

local ms = 0
while (called < bulk or ms < 5000 or #parked > 0) and ms < 200000 do
  local now = START + ms * 1000
  local stopped = stop_at > 0 and ms >= stop_at and ms < stop_at + 2000
  reopen(shared, now)
  if ms < 5000 and math.random(1000) <= arrivals then
    numbers = numbers + 1
    local slot = limiter_slot(alone, now)
    limiter_take(alone, slot, now)
    local job = {looks = 0, number = numbers, alone = slot, at = ms}
    parked[#parked + 1] = job
  end
  if not stopped then
    local before = parked
    parked = {}
    for _, job in ipairs(before) do
      if job.at <= ms then
        interactive(job, now)
      else
        parked[#parked + 1] = job
      end
    end
    local waiting = bulk - called - #on_the_way
    if waiting > 0 then
      for _ = 1, (limiter_hand_back(shared, waiting, now)) do
        on_the_way[#on_the_way + 1] = ms + math.random(0, most_late)
      end
    end
    local arriving = on_the_way
    on_the_way = {}
    for _, at in ipairs(arriving) do
      if at > ms then
        on_the_way[#on_the_way + 1] = at
      elseif limiter_slot(shared, now) <= now then
        limiter_take(shared, now, now)
        call(now)
        called, last_bulk = called + 1, ms
      end
    end
  end
  ms = ms + 1
end
return {calls, beyond, called, last_bulk, most_wait, most_looks, out_of_order}
