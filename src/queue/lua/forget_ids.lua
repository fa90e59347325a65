-- forget_ids.lua: forgets ids that were reserved long ago. (atomic.lua stands before this text.)
--
-- KEYS  1 the list of reserved ids · then the id keys at its head
-- ARGV  1 the list's first element, as the caller saw it · 2 how many elements go, from the first on · 3 the time in ms before
--       which a job was enqueued that nothing still waiting can be a duplicate of · 4 now in ms: later is no time of enqueueing
-- Returns  how many ids were forgotten; -1 where the list begins with something else by now: another worker was there before.
-- Guarantees  An id that names a job enqueued since stays, and stands in the list once more or expires. Where a command fails,
--         the whole is to be done again, to the same effect. O(keys); keys <= 1,024.

local before_ms, now_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then
  return -1
end
local forgotten = {}
for i = 2, #KEYS do
  local holders = redis.pcall('GET', KEYS[i])
  if is_error(holders) then
    if not string.find(holders.err, 'WRONGTYPE', 1, true) then
      error(holders.err, 0)
    end
    -- A key of another type reserves nothing.
    holders = ''
  end
  if holders then
    local latest_ms = tonumber(string.match(holders, '^[^ ]-(%d+)%-%d+')) or 0
    if latest_ms < before_ms or latest_ms > now_ms then
      forgotten[#forgotten + 1] = KEYS[i]
    end
  end
end
if #forgotten > 0 then
  redis.call('DEL', unpack(forgotten))
end
redis.call('LTRIM', KEYS[1], ARGV[2], -1)
return #forgotten
