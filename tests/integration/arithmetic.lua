-- Plays a bucket of limiter.lua, turns.lua and strikes.lua (which stand before this text) through time, in steps of 1 ms, without waiting for it.
--
-- KEYS  1 the bucket
-- ARGV  1 seed · 2 interval, 3 tolerance and 4 slack in us, as the worker has them · 5 interval and 6 tolerance in us, as XCO has
--       them · 7 bulk jobs that wait · 8 interactive arrivals a 1,000 s · 9 the longest a worker is late, in ms · 10 when
--       workers stop for 2 s, in ms (0: never) · 11 when XCO refuses a call for no reason of the limit's, in ms (0: never), and
--       12 for how long it says to wait then, in us · 13 interactive jobs that come together · 14 of 1,000 parked jobs those
--       whose worker is lost, so that they come up to 6 s later · 15 when Redis's clock steps, in ms (0: never), and 16 by how
--       much it goes back, in us · 17 of 1,000 parked jobs those that never come, because they were cancelled
-- Returns  {calls, calls beyond XCO's limit, bulk jobs called, ms until the last was, the longest an interactive call waited
--       more than it would have without bulk (us), the most looks at one interactive job, calls out of order,
--       interactive jobs}

math.randomseed(tonumber(ARGV[1]))
local rate = limiter_rate(ARGV[2], ARGV[3], ARGV[4], 1)
local their_interval, their_tolerance = tonumber(ARGV[5]), tonumber(ARGV[6])
local bulk, arrivals, most_late, stop_at = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local refuse_at, retry_after, together = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local lost = tonumber(ARGV[14])
local step_at, step_us = tonumber(ARGV[15]), tonumber(ARGV[16])
local cancelled = tonumber(ARGV[17])
-- Far ahead of any clock, so that what is stored stays.
local START = 4000000000000000
local shared, alone = limiter_open(false, rate, START), limiter_open(false, rate, START)
local theirs, calls, beyond = 0, 0, 0
local called, last_bulk, most_wait, most_looks, out_of_order, last_number = 0, 0, 0, 0, 0, 0
local parked, on_the_way, numbers = {}, {}, 0

local function reopen(now)
  limiter_save(KEYS[1], shared, now)
  shared = limiter_open(redis.call('GET', KEYS[1]), rate, now)
end

-- By how much Redis's clock is behind the time that passes. Parked jobs come after as long as they were to wait.
local behind = 0

local function call(now)
  now = now + behind
  calls = calls + 1
  if theirs - their_tolerance > now then
    beyond = beyond + 1
  end
  theirs = math.max(theirs, now) + their_interval
end

local function park(job, slot)
  if cancelled > 0 and math.random(1000) <= cancelled then
    return
  end
  job.at = math.ceil((slot + behind - START) / 1000) + math.random(0, most_late)
  if math.random(1000) <= lost then
    job.at = job.at + math.random(6000)
  end
  parked[#parked + 1] = job
end

local function interactive(job, now)
  job.looks = job.looks + 1
  local slot, turn
  if job.turn then
    slot, turn = limiter_claim(shared, job.turn, now)
  else
    slot, turn = limiter_enter(shared, now)
  end
  if slot > now or turn then
    job.turn = turn
    park(job, slot)
    return
  end
  if refuse_at > 0 and now + behind >= START + refuse_at * 1000 then
    refuse_at = 0
    limiter_close(shared, now, retry_after, false)
    -- As defer.lua parks it: it comes back at once when its turn is, and nobody is late for that.
    job.turn = AGAIN
    park(job, limiter_refuse(shared, now))
    return
  end
  call(now)
  most_wait = math.max(most_wait, now + behind - job.alone)
  most_looks = math.max(most_looks, job.looks)
  if job.number < last_number then
    out_of_order = out_of_order + 1
  end
  last_number = job.number
end

local ms = 0
local people_until = math.max(5000, 40 * their_interval / 1000)
-- Drawn first: they come at the same times, whatever happens meanwhile.
local coming = {}
for at = 0, people_until do
  coming[at] = math.random(1000000) <= arrivals / together
end
while (called < bulk or ms < people_until or #parked > 0) and ms < 200000 do
  if step_at > 0 and ms == step_at then
    behind = step_us
  end
  local time = START + ms * 1000
  local now = time - behind
  local stopped = stop_at > 0 and ms >= stop_at and ms < stop_at + 2000
  reopen(now)
  if ms < people_until and coming[ms] then
    for _ = 1, together do
      numbers = numbers + 1
      local slot = limiter_slot(alone, time)
      limiter_reserve(alone, slot)
      parked[#parked + 1] = {looks = 0, number = numbers, alone = slot, at = ms}
    end
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
      elseif limiter_bulk_slot(shared, now) <= now then
        limiter_take_bulk(shared, now)
        call(now)
        called, last_bulk = called + 1, ms
      end
    end
  end
  ms = ms + 1
end
return {calls, beyond, called, last_bulk, most_wait, most_looks, out_of_order, numbers}
