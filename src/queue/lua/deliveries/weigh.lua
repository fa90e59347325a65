-- weigh.lua: measures the entries at the head of streams, so that no entry is read that does not fit into memory.
--
-- KEYS  streams
-- ARGV  1 number of nodes to examine in each stream · 2 bytes per node above which the size is measured without pending
--       entries
-- Returns  for each stream: average bytes per node among those examined (a node has one entry, or at most about 4 KiB);
--          0 if the stream is missing or small
-- Guarantees  Changes nothing. O(nodes examined).

-- Size of an entry on a pending list, which MEMORY USAGE counts too: about 600 bytes, with a reserve.
local PENDING_BYTES = 1000

-- A smaller total is harmless in any distribution.
local LITTLE_BYTES = 1048576

local function field(list, name)
  for i = 1, #list, 2 do
    if list[i] == name then
      return list[i + 1]
    end
  end
end

local weights = {}
for i, stream in ipairs(KEYS) do
  weights[i] = 0
  local bytes = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', ARGV[1]) or 0
  if bytes > LITTLE_BYTES then
    local nodes = math.max(field(redis.call('XINFO', 'STREAM', stream), 'radix-tree-keys'), 1)
    if bytes > nodes * ARGV[2] then
      for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        bytes = bytes - PENDING_BYTES * field(group, 'pending')
      end
    end
    weights[i] = math.floor(bytes / nodes)
  end
end
return weights
