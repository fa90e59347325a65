-- limits_read.lua: reads the limits that operators changed while workers run.
--
-- KEYS  1 limits
-- ARGV  1 maximum length of a value in bytes · then names of fields (<= 8)
-- Returns  for each field its value: '' if it is missing, 'invalid' if it is too long. An empty list if the key is not a
--          hash.
-- Guarantees  Changes nothing. O(fields).

local found = redis.pcall('HMGET', KEYS[1], unpack(ARGV, 2))
if found.err then
  if string.find(found.err, 'WRONGTYPE', 1, true) then
    return {}
  end
  return redis.error_reply(found.err)
end
local most = tonumber(ARGV[1])
local values = {}
for i = 1, #ARGV - 1 do
  local value = found[i] or ''
  values[i] = #value <= most and value or 'invalid'
end
return values
