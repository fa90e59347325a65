-- call_up.lua: parked jobs that an operator cancels come up at once, and say so themselves: no worker can run one, whatever
-- rules it knows. (atomic.lua stands before this text.)
--
-- KEYS  1 delayed · 2 delayed:jobs
-- ARGV  origins (<= 500)
-- Returns  how many of them were parked. An error: those before the one that failed are called up, and asking again calls up
--         the others.
-- Guarantees  Nothing that is not parked is touched. Safe to repeat. O(origins · log parked).

local MARK = '{"e":true,'

local function call_up(origin, parked)
  if string.sub(parked, 1, #MARK) ~= MARK then
    write({'HSET', KEYS[2], origin, parked}, 'HSET', KEYS[2], origin, MARK .. string.sub(parked, 2))
  end
  write(nil, 'ZADD', KEYS[1], 'XX', 0, origin)
end

local found = 0
for _, origin in ipairs(ARGV) do
  local parked = redis.call('HGET', KEYS[2], origin)
  if parked and redis.call('ZSCORE', KEYS[1], origin) then
    local why = all_or_nothing(call_up, origin, parked)
    if why then
      return redis.error_reply('FAILED ' .. why)
    end
    found = found + 1
  end
end
return found
