-- call_up.lua: parked jobs that an operator cancels come up at once, and say so themselves: no worker can run one, whatever
-- rules it knows.
--
-- KEYS  1 delayed · 2 delayed:jobs
-- ARGV  origins (<= 500)
-- Returns  how many of them were parked.
-- Guarantees  Nothing that is not parked is touched. Safe to repeat. O(origins · log parked).

local MARK = '{"e":true,'
local found = 0
for _, origin in ipairs(ARGV) do
  local parked = redis.call('HGET', KEYS[2], origin)
  if parked and redis.call('ZSCORE', KEYS[1], origin) then
    if string.sub(parked, 1, #MARK) ~= MARK then
      redis.call('HSET', KEYS[2], origin, MARK .. string.sub(parked, 2))
    end
    redis.call('ZADD', KEYS[1], 'XX', 0, origin)
    found = found + 1
  end
end
return found
