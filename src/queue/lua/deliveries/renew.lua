-- renew.lua: renews the leases of a worker's deliveries, and returns those it has lost. (Needs atomic.lua before it.)
--
-- KEYS  1 the stream
-- ARGV  1 consumer · then entry ids (<= 256)
-- Returns  {lost, trimmed}: the entry ids that no longer belong to this consumer, and those whose entries another
--          program removed. The latter stay pending for this consumer, and only it can end them.
-- Guarantees  Never takes a delivery from another consumer (a plain XCLAIM would). A delivery without a consumer,
--             because another program took it off the pending list, becomes this consumer's again. Does not count as a
--             delivery (JUSTID). O(ids · log pending).

local lost, trimmed = {}, {}
local held, dropped = {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local rows = redis.call('XPENDING', KEYS[1], 'workers', id, id, 1)
  local owner = rows[1] and rows[1][2]
  -- Claiming an entry that is not in the stream would remove it from the pending list.
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
