-- clock_ahead.lua: finds delayed jobs that were put aside after now: before the clock went back.
--
-- KEYS  1 delayed:jobs
-- ARGV  1 cursor · 2 about how many to look at (<= 500)
-- Returns  {cursor to go on from ('0': at the end), then for each job found its origin and its state}
-- Guarantees  Changes nothing. Every job that is delayed from the first step to the last is found, some of them twice. Jobs
--         that wait for a moment that a producer or an operator named are left out. O(looked at).

-- Workers stamp by their idea of this clock.
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
