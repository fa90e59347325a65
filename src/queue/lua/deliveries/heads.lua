-- heads.lua: returns the id of the first entry of each stream. The entry itself may be too large to send.
--
-- KEYS  streams
-- Returns  for each stream the id of its first entry; '' if it has none
-- Guarantees  Changes nothing. O(streams).

local heads = {}
for i, stream in ipairs(KEYS) do
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  heads[i] = first and first[1] or ''
end
return heads
