-- forget_slice.lua: forgets a slice of the index of ids, unless an id was reserved in it lately. A large slice is emptied
-- in steps before, because Redis frees a key in one go and does nothing else meanwhile.
--
-- KEYS  1 the index of ids · 2 the slice
-- ARGV  1 name of the slice in the index · 2 time in ms: an id was reserved in it lately if it expires later than after
--       this time · 3 maximum number of fields to free in one go · 4 cursor of the step before, '0' at first
-- Returns  {'0', ''} forgotten · {'1', ''} stays, an id was reserved in it lately · {'2', cursor} more steps are needed
-- Guarantees  An id that was reserved lately stays: no job reserves one between the look and the deletion. Safe to repeat,
--             after a failure too: the index names the slice until it is gone. O(1,024) for each step.

if redis.call('PTTL', KEYS[2]) > tonumber(ARGV[2]) then
  return {'1', ''}
end
-- A key of another type holds no ids.
if redis.call('TYPE', KEYS[2]).ok == 'hash' and redis.call('HLEN', KEYS[2]) > tonumber(ARGV[3]) then
  local scanned = redis.call('HSCAN', KEYS[2], ARGV[4], 'COUNT', 1024)
  local ids = {}
  for i = 1, #scanned[2], 2 do
    ids[#ids + 1] = scanned[2][i]
  end
  if #ids > 0 then
    redis.call('HDEL', KEYS[2], unpack(ids))
  end
  return {'2', scanned[1]}
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return {'0', ''}
