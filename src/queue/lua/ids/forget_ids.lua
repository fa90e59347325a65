-- forget_ids.lua: forgets ids that were reserved long ago. (Needs atomic.lua before it.)
--
-- KEYS  1 the list of reserved ids · then the id keys at its start
-- ARGV  1 first element of the list, as the caller saw it · 2 number of elements to remove from the start · 3 time in
--       ms: a job enqueued before it cannot have a duplicate that still waits · 4 now in ms: a later time is not a
--       valid time of enqueueing
-- Returns  number of ids forgotten; -1 if the list starts with another element now, because another worker was first.
-- Guarantees  An id that names a job enqueued since then stays, and is in the list again or expires. If a command
--             fails, the whole call must be repeated, with the same effect. O(keys); keys <= 1,024.

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
