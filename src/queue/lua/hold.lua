-- hold.lua: parks deliveries of one stream that an operator's rule pauses, and notes by which.
--
-- KEYS  1 the stream · 2 delayed · 3 delayed:jobs · 4 held · 5 held:<rule>
-- ARGV  1 the rule's name · then for each delivery 4: entry id · origin · due in ms · state, newline, job
-- Returns  how many were parked; the others were not ours any more.
-- Guarantees  A delivery is parked at most once, and never without its note: whoever finds the rule gone finds the job.
--         O(deliveries · log parked); deliveries <= 256.

local parked = 0
for at = 2, #ARGV, 4 do
  local entry, origin, due = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if #redis.call('XRANGE', KEYS[1], entry, entry) == 1 then
    redis.call('XACK', KEYS[1], 'workers', entry)
    redis.call('XDEL', KEYS[1], entry)
    redis.call('ZADD', KEYS[2], due, origin)
    redis.call('HSET', KEYS[3], origin, ARGV[at + 3])
    redis.call('ZADD', KEYS[5], due, origin)
    parked = parked + 1
  end
end
if parked > 0 then
  redis.call('SADD', KEYS[4], ARGV[1])
end
return parked
