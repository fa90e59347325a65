-- delay_paused.lua: delays deliveries of one stream that an operator's rule pauses or whose route's breaker is not closed, and
-- records which. (Needs atomic.lua before it.)
--
-- KEYS  1 the stream · 2 delayed · 3 delayed:jobs · 4 held · 5 held:<rule>
-- ARGV  1 name of the rule or breaker · 2 consumer · then for each delivery 4 values: entry id · origin · due in ms ·
--       state, newline, job
-- Returns  number (from 1), reason, number, reason …: nothing was done for these deliveries. The others are delayed, or
--          had already ended.
-- Guarantees  A delivery is delayed at most once, and always with its record in held, so that the job is found when the
--             rule ends. Each is delayed completely or not at all, whichever command fails. O(deliveries · log
--             delayed); deliveries <= 256.

-- A record of a rule without jobs does no harm. A job without its record would not be found when the rule ends.
redis.call('SADD', KEYS[4], ARGV[1])

local function park(entry, origin, due, job)
  write({'HDEL', KEYS[3], origin}, 'HSET', KEYS[3], origin, job)
  write({'ZREM', KEYS[2], origin}, 'ZADD', KEYS[2], due, origin)
  write({'ZREM', KEYS[5], origin}, 'ZADD', KEYS[5], due, origin)
  if write(nil, 'XACK', KEYS[1], 'workers', entry) == 1 then
    remember({'XCLAIM', KEYS[1], 'workers', ARGV[2], 0, entry, 'RETRYCOUNT', '1', 'FORCE', 'JUSTID'})
  end
  write(nil, 'XDEL', KEYS[1], entry)
end

local failed = {}
for at = 3, #ARGV, 4 do
  local entry = ARGV[at]
  if #redis.call('XRANGE', KEYS[1], entry, entry) == 1 then
    local why = all_or_nothing(park, entry, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
    if why then
      failed[#failed + 1], failed[#failed + 2] = (at + 1) / 4, why
    end
  end
end
return failed
