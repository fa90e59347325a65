-- read_cut.lua: reads a lane's two streams like XREADGROUP, but cuts fields that are too large.
--
-- KEYS  1 due of the lane · 2 jobs of the lane
-- ARGV  1 consumer · 2 number of entries from each stream · 3 maximum bytes of a field
-- Returns  the reply of XREADGROUP with only the fields job, state, parent and generation, each cut. A job that was cut
--          is larger than jobs may be, and is rejected for that reason.
-- Guarantees  Those of XREADGROUP: returned entries are pending for the consumer. O(entries).

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
