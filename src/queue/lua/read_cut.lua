-- read_cut.lua: reads a lane's two streams as XREADGROUP does, without ever sending a field that is too large.
--
-- KEYS  1 due of the lane · 2 jobs of the lane
-- ARGV  1 consumer · 2 how many entries of each · 3 the most bytes of a field that are kept
-- Returns  as XREADGROUP, with the fields job, state, parent and generation alone, each cut. A job that is cut is larger than jobs
--          may be, and is rejected for that.
-- Guarantees  As XREADGROUP: what is returned is pending for the consumer. O(entries).

local KNOWN = {job = true, state = true, parent = true, generation = true}

local read = redis.call('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', ARGV[2], 'STREAMS', KEYS[1], KEYS[2], '>', '>')
for _, stream in ipairs(read or {}) do
  for _, entry in ipairs(stream[2]) do
    local kept = {}
    for i = 1, #entry[2], 2 do
      if KNOWN[entry[2][i]] then
        kept[#kept + 1] = entry[2][i]
        kept[#kept + 1] = string.sub(entry[2][i + 1], 1, ARGV[3])
      end
    end
    entry[2] = kept
  end
end
return read
