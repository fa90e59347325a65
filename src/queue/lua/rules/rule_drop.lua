-- rule_drop.lua: removes one of the operators' rules.
--
-- KEYS  1 control
-- ARGV  1 name of the rule · 2 its order, if only this one may be removed; '' for any
-- Returns  1 removed, 0 not found, or with another order now.
-- Guarantees  The version `v` changes with every change, and before it, so that no worker misses one if a command
--             fails. The key is removed with the last rule. O(1).

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
