-- weigh.lua: how large the entries at the head of streams are, so that none is read that does not fit into memory.
-- (fields.lua stands before this text.)
--
-- KEYS  streams
-- ARGV  1 how many nodes of each stream are looked at
-- Returns  for each stream: bytes a node, on average over those looked at (a node has one entry or at most about 4 KiB); 0 where
--          there is no such stream
-- Guarantees  Changes nothing. O(nodes looked at).

-- What an entry on a pending list takes, which MEMORY USAGE counts too: about 600 bytes.
local PENDING_BYTES = 1000

local weights = {}
for i, stream in ipairs(KEYS) do
  weights[i] = 0
  local bytes = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', ARGV[1])
  if bytes then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      bytes = bytes - PENDING_BYTES * fields(group).pending
    end
    weights[i] = math.floor(bytes / math.max(fields(redis.call('XINFO', 'STREAM', stream))['radix-tree-keys'], 1))
  end
end
return weights
