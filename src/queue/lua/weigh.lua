-- weigh.lua: how large the entries at the head of streams are, so that none is read that does not fit into memory.
--
-- KEYS  streams
-- ARGV  1 how many nodes of each stream are looked at · 2 more bytes a node than this are much: only then are they told from
--       what is pending
-- Returns  for each stream: bytes a node, on average over those looked at (a node has one entry or at most about 4 KiB); 0 where
--          there is no such stream, or little in it
-- Guarantees  Changes nothing. O(nodes looked at).

-- What an entry on a pending list takes, which MEMORY USAGE counts too: about 600 bytes.
local PENDING_BYTES = 1000

-- Less than this in all is no matter, however it is spread.
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
