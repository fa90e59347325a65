-- rule_drop.lua: takes one of the operators' rules out of force.
--
-- KEYS  1 control
-- ARGV  1 the rule's name · 2 its order, where only that one is meant; '' for any
-- Returns  1 gone, 0 it was not there, or is another by now.
-- Guarantees  The version `v` changes with every change, and before it, so that no worker misses one where a command fails;
--         with the last rule the key goes. O(1).

local order = redis.call('HGET', KEYS[1], ARGV[1])
if not order or (ARGV[2] ~= '' and ARGV[2] ~= order) then
  return 0
end
local version = redis.call('HGET', KEYS[1], 'v')
if redis.call('HLEN', KEYS[1]) <= (version and 2 or 1) then
  redis.call('DEL', KEYS[1])
else
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'v', t[1] .. '.' .. t[2])
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
