-- defer.lua: handles a 429: closes the bucket and delays the job until it opens again. (Needs atomic.lua, index.lua,
-- limiter.lua, turns.lua, strikes.lua and recent.lua before it.)
--
-- KEYS  1 the stream · 2 begun · 3 delayed · 4 delayed:jobs · 5 the bucket · 6 learned · 7, 8 the hashes of recent
--       buckets · 9 the bucket's queue, if the job must wait there
-- ARGV  1 entry id · 2 origin · 3 state, newline, job · 4 Retry-After in us, -1 if none · 5 interval in us · 6
--       tolerance in us · 7 deadline in ms, 0 if none · 8 '1' if the bucket learns a rate from 429s · 9 name of the
--       bucket · 10 consumer · 11 the job's age in the queue · 12 the latest time to leave the queue, in ms
-- Returns  {code, due in ms (0 if not delayed), reason ('' without a failure)}:
--           1 delayed
--           0 the delivery had already ended
--           2 the deadline comes first; the delivery is still pending for this consumer
--           3 a command failed; the delivery is still pending for this consumer
-- Guarantees  The bucket is closed in every case, because the 429 was received. The job is delayed completely or not at
--             all, and at most once. A full Redis accepts this script too, because its first write cannot grow. O(log
--             delayed).

local now_us = limiter_now()
local bucket = limiter_open(recent_or_own(KEYS[5], {KEYS[7], KEYS[8]}), limiter_rate(ARGV[5], ARGV[6], 0, 0), now_us)
limiter_close(bucket, now_us, tonumber(ARGV[4]), ARGV[8] == '1')

-- A full Redis refuses a script whose first write may grow, but accepts all writes after one that cannot. This write
-- does nothing.
redis.call('XACK', KEYS[1], 'workers', '0-0')

local function park(due_ms)
  write({'HDEL', KEYS[4], ARGV[2]}, 'HSET', KEYS[4], ARGV[2], ARGV[3])
  write({'ZREM', KEYS[3], ARGV[2]}, 'ZADD', KEYS[3], string.format('%.3f', due_ms), ARGV[2])
  if KEYS[9] then
    write({'ZREM', KEYS[9], ARGV[2]}, 'ZADD', KEYS[9], ARGV[11], ARGV[2])
  end
  local mark = redis.call('HGET', KEYS[2], ARGV[2])
  if mark then
    write({'HSET', KEYS[2], ARGV[2], mark}, 'HDEL', KEYS[2], ARGV[2])
  end
  if write(nil, 'XACK', KEYS[1], 'workers', ARGV[1]) == 1 then
    remember({'XCLAIM', KEYS[1], 'workers', ARGV[10], 0, ARGV[1], 'RETRYCOUNT', '1', 'FORCE', 'JUSTID'})
  end
  write(nil, 'XDEL', KEYS[1], ARGV[1])
end

local verdict, due_ms, why = 0, 0, nil
-- An entry that another program trimmed may still be pending. It then belongs to this consumer too.
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 1 or is_pending(KEYS[1], ARGV[1], ARGV[10]) then
  local deadline = tonumber(ARGV[7])
  if deadline > 0 and math.max(now_us, bucket.closed) >= deadline * 1000 then
    verdict = 2
  else
    if KEYS[9] then
      due_ms = tonumber(ARGV[12])
    else
      due_ms = limiter_refuse(bucket, now_us) / 1000
    end
    why = all_or_nothing(park, due_ms)
    verdict = why and 3 or 1
  end
end
limiter_save(KEYS[5], bucket, now_us)

-- Records the buckets that met a 429 recently, for as long as a rate is remembered. Only operators' reports use it.
local now_ms = math.floor(now_us / 1000)
courtesy('ZADD', KEYS[6], now_ms, ARGV[9])
courtesy('ZREMRANGEBYSCORE', KEYS[6], '-inf', now_ms - FORGET_US / 1000)
courtesy('ZREMRANGEBYRANK', KEYS[6], 0, -1001)
courtesy('PEXPIRE', KEYS[6], FORGET_US / 1000)
return {verdict, math.ceil(due_ms), why or ''}
