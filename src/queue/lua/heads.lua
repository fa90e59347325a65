-- heads.lua: the first entry of each stream, by its id alone: an entry may be larger than anybody should be sent.
--
-- KEYS  streams
-- Returns  for each stream the id of its first entry; '' where it has none
-- Guarantees  Changes nothing. O(streams).

local heads = {}
for i, stream in ipairs(KEYS) do
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  heads[i] = first and first[1] or ''
end
return heads
