-- renew.lua: renews the leases of deliveries that a worker holds, and tells which it has lost. (atomic.lua stands before.)
--
-- KEYS  1 the stream
-- ARGV  1 consumer · then entry ids (<= 256)
-- Returns  {lost, trimmed}: the entry ids that are not this consumer's any more; and those whose entries a foreign hand removed:
--          they stay pending for this consumer, which can end them and nothing else.
-- Guarantees  Never takes a delivery from another consumer (a bare XCLAIM would). One that nobody holds, because a foreign hand
--         took it off the pending list, is held again. Does not count as a delivery (JUSTID). O(ids · log pending).

local lost, trimmed = {}, {}
local held, dropped = {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local rows = redis.call('XPENDING', KEYS[1], 'workers', id, id, 1)
  local owner = rows[1] and rows[1][2]
  -- Claiming what is not in the stream would take it off the pending list.
  local exists = #redis.call('XRANGE', KEYS[1], id, id) == 1
  if owner and owner ~= ARGV[1] and owner ~= ADRIFT then
    lost[#lost + 1] = id
  elseif exists and owner == ARGV[1] then
    held[#held + 1] = id
  elseif exists then
    dropped[#dropped + 1] = id
  elseif owner == ARGV[1] then
    trimmed[#trimmed + 1] = id
  else
    lost[#lost + 1] = id
  end
end
local function claim(ids, ...)
  if #ids > 0 then
    for _, word in ipairs({...}) do
      ids[#ids + 1] = word
    end
    redis.call('XCLAIM', KEYS[1], 'workers', ARGV[1], 0, unpack(ids))
  end
end
claim(held, 'JUSTID')
claim(dropped, 'RETRYCOUNT', '1', 'FORCE', 'JUSTID')
return {lost, trimmed}
