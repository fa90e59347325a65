-- peek.lua: reads entries of a stream without delivering them, and cuts fields that are too large.
--
-- KEYS  1 the stream
-- ARGV  1 begin after this entry id ('' at the first) · 2 the last entry id · 3 number of entries (<= 64) · 4 maximum
--         bytes of a field
-- Returns  entries in the form of XRANGE, with only the fields job, state, parent and generation, each cut
-- Guarantees  Changes nothing. Redis copies one entry at a time, however large the others are. O(entries · log stream).

local KNOWN = {job = true, state = true, parent = true, generation = true}

local after = ARGV[1]
local found = {}
for _ = 1, tonumber(ARGV[3]) do
  local entry = redis.call('XRANGE', KEYS[1], after == '' and '-' or '(' .. after, ARGV[2], 'COUNT', 1)[1]
  if not entry then
    break
  end
  local kept = {}
  for i = 1, #entry[2], 2 do
    if KNOWN[entry[2][i]] then
      kept[#kept + 1] = entry[2][i]
      kept[#kept + 1] = string.sub(entry[2][i + 1], 1, ARGV[4])
    end
  end
  found[#found + 1] = {entry[1], kept}
  after = entry[1]
end
return found
