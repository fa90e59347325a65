-- Plays a bucket whose limit nobody told the worker through time, in steps of 1 ms, without waiting for it: XCO's limit, a
-- caller with more jobs than that lets through, all there at the beginning, and a worker. (limiter.lua, turns.lua and strikes.lua stand before this.)
--
-- KEYS  1 the bucket
-- ARGV  1 interval and 2 tolerance in us, as the worker was told them (0: not at all) · 3 interval and 4 tolerance in us, as XCO
--       has them · 5 jobs · 6 minutes · 7 calls at once · 8 what a call takes, in ms · 9 Retry-After in us (-1: none)
-- Returns  for each minute: calls made, and answered 429; then the most looks at one job

local rate = limiter_rate(ARGV[1], ARGV[2], 1000, 0)
local their_interval, their_tolerance = tonumber(ARGV[3]), tonumber(ARGV[4])
local jobs, minutes, most_calls, takes_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local retry_after_us = tonumber(ARGV[9])
-- Far ahead of any clock, so that what is stored stays.
local START = 4000000000000000

local theirs, running, most_looks = 0, 0, 0
local calls, refused = {}, {}
-- Jobs, by the millisecond at which they come up and at which their call ends; and those that wait for the worker.
local due, ending = {}, {}
local lane, first, last = {}, 1, jobs
for number = 1, jobs do
  lane[number] = {looks = 0}
end

local function note(list, ms, job)
  list[ms] = list[ms] or {}
  table.insert(list[ms], job)
end

local function ms_of(us)
  return math.ceil((us - START) / 1000)
end

-- What defer.lua does.
local function defer(job, ms, now)
  local bucket = limiter_open(redis.call('GET', KEYS[1]), rate, now)
  limiter_close(bucket, now, retry_after_us, true)
  job.turn = AGAIN
  note(due, math.max(ms + 1, ms_of(limiter_refuse(bucket, now))), job)
  limiter_save(KEYS[1], bucket, now)
end

-- What admit.lua does: when the job may go.
local function enter(bucket, job, now)
  local slot, turn
  if job.turn then
    slot, turn = limiter_claim(bucket, job.turn, now)
  else
    slot, turn = limiter_enter(bucket, now)
  end
  job.turn = turn or job.turn
  return slot, turn
end

local function call(job, ms, now, minute)
  running = running + 1
  calls[minute] = (calls[minute] or 0) + 1
  local there = now + takes_ms * 500
  job.refused = theirs - their_tolerance > there
  if job.refused then
    refused[minute] = (refused[minute] or 0) + 1
  else
    theirs = math.max(theirs, there) + their_interval
  end
  note(ending, ms + takes_ms, job)
end

for ms = 0, minutes * 60000 - 1 do
  local now, minute = START + ms * 1000, math.floor(ms / 60000) + 1
  for _, job in ipairs(ending[ms] or {}) do
    running = running - 1
    if job.refused then
      defer(job, ms, now)
    end
  end
  for _, job in ipairs(due[ms] or {}) do
    last = last + 1
    lane[last] = job
  end
  ending[ms], due[ms] = nil, nil
  if first <= last and running < most_calls then
    local bucket = limiter_open(redis.call('GET', KEYS[1]), rate, now)
    for _ = 1, 64 do
      if first > last or running == most_calls then
        break
      end
      local job = lane[first]
      lane[first], first = nil, first + 1
      job.looks = job.looks + 1
      most_looks = math.max(most_looks, job.looks)
      local slot, waits = enter(bucket, job, now)
      if slot > now or waits then
        note(due, math.max(ms + 1, ms_of(slot)), job)
      else
        call(job, ms, now, minute)
      end
    end
    limiter_save(KEYS[1], bucket, now)
  end
end

local told = {}
for minute = 1, minutes do
  table.insert(told, calls[minute] or 0)
  table.insert(told, refused[minute] or 0)
end
table.insert(told, most_looks)
return told
