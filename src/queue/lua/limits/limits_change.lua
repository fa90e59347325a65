-- limits_change.lua: sets limits that operators change while workers run, or removes such changes.
--
-- KEYS  1 limits
-- ARGV  pairs (<= 7): name of a field, its value; '' removes the field
-- Returns  the number of fields that were set or removed.
-- Guarantees  The version `v` changes with every change, and not after it, so that no worker misses one if a command
--             fails. The key is removed with its last field. Safe to repeat. O(fields).

local t = redis.call('TIME')
local set, gone = {'v', t[1] .. '.' .. t[2]}, {}
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then
    set[#set + 1], set[#set + 2] = ARGV[i], ARGV[i + 1]
  elseif redis.call('HGET', KEYS[1], ARGV[i]) then
    gone[#gone + 1] = ARGV[i]
  end
end
local changed = (#set - 2) / 2 + #gone
if changed == 0 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(set))
if #gone > 0 then
  if redis.call('HLEN', KEYS[1]) <= #gone + 1 then
    redis.call('DEL', KEYS[1])
  else
    redis.call('HDEL', KEYS[1], unpack(gone))
  end
end
return changed
