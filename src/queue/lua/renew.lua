-- renew.lua: renews the leases of deliveries that a worker holds, and tells which it has lost.
--
-- KEYS  1 the stream
-- ARGV  1 consumer · then entry ids (<= 256)
-- Returns  the entry ids that are not this consumer's any more.
-- Guarantees  Never takes a delivery from another consumer (a bare XCLAIM would). Does not count as a delivery (JUSTID).
--         O(ids · log pending).

local held, lost = {}, {}
for i = 2, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], 'workers', ARGV[i], ARGV[i], 1, ARGV[1])
  if #pending == 1 then
    held[#held + 1] = ARGV[i]
  else
    lost[#lost + 1] = ARGV[i]
  end
end
if #held > 0 then
  local claim = {'XCLAIM', KEYS[1], 'workers', ARGV[1], 0}
  for _, id in ipairs(held) do
    claim[#claim + 1] = id
  end
  claim[#claim + 1] = 'JUSTID'
  redis.call(unpack(claim))
end
return lost
