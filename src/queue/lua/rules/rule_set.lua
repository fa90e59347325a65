-- rule_set.lua: puts one of the operators' rules in force. It replaces a rule with the same name.
--
-- KEYS  1 control
-- ARGV  1 name of the rule · 2 its order · 3 maximum number of rules
-- Returns  1 in force, 0 refused: there are too many rules.
-- Guarantees  The version `v` changes with every change, even if the key was removed in between. O(1).

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then
  return 0
end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'v', t[1] .. '.' .. t[2])
return 1
