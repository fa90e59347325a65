-- clock_ahead.lua: finds delayed jobs whose wait began in the future, because the clock went back since.
--
-- KEYS  1 delayed:jobs
-- ARGV  1 cursor · 2 approximate number of jobs to examine (<= 500)
-- Returns  {cursor for the next step ('0': at the end), then for each job found its origin and its state}
-- Guarantees  Changes nothing. A job that is delayed during all steps is found at least once, some jobs twice. Jobs
--             that wait for a time chosen by a producer or an operator are left out. O(jobs examined).

-- Workers write times by their estimate of this clock.
local TOLERANCE_MS = 100
local t = redis.call('TIME')
local latest_ms = t[1] * 1000 + math.floor(t[2] / 1000) + TOLERANCE_MS
local moves = {retry = true, limit = true, slot = true}

local scanned = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = {scanned[1]}
for i = 1, #scanned[2], 2 do
  local state = string.match(scanned[2][i + 1], '^([^\n]*)\n')
  local why, since_ms = string.match(state or '', '"w":%["(%a+)",(%d+)%]')
  if why and moves[why] and tonumber(since_ms) > latest_ms then
    found[#found + 1] = scanned[2][i]
    found[#found + 1] = state
  end
end
return found
