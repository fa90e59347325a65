-- cancel_delayed.lua: makes delayed jobs due that an operator cancels, and marks them as cancelled in their own state, so that
-- no worker can run them, whichever rules it has loaded. (Needs atomic.lua before it.)
--
-- KEYS  1 delayed · 2 delayed:jobs
-- ARGV  origins (<= 500)
-- Returns  how many of them were delayed. After an error, the jobs before the failed one are done, and a repetition
--          does the others.
-- Guarantees  Changes only delayed jobs. Safe to repeat. O(origins · log delayed).

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
