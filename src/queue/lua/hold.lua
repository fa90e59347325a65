-- hold.lua: parks deliveries of one stream that an operator's rule pauses, or that a route's breaker puts aside, and notes by
-- which. (atomic.lua stands before.)
--
-- KEYS  1 the stream · 2 delayed · 3 delayed:jobs · 4 held · 5 held:<rule>
-- ARGV  1 the rule's (or breaker's) name · 2 consumer · then for each delivery 4: entry id · origin · due in ms · state, newline, job
-- Returns  number (from 1), reason, number, reason …: of these deliveries nothing was done. The others are parked, or were not
--         ours any more.
-- Guarantees  A delivery is parked at most once, and never without its note: whoever finds the rule gone finds the job. Each is
--         parked whole or not at all, whichever command fails. O(deliveries · log parked); deliveries <= 256.

-- A note of a rule that holds nothing does no harm; a job without it would wait for ever.
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
