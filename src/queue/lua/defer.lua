-- defer.lua: a call was answered 429: closes its bucket and parks the job behind the closure. (limiter.lua stands before.)
--
-- KEYS  1 the stream · 2 begun · 3 delayed · 4 delayed:jobs · 5 the bucket · 6 learned · 7 the bucket's queue, where the job
--       is to wait there
-- ARGV  1 entry id · 2 origin · 3 state, newline, job · 4 Retry-After in us, -1 for none · 5 interval in us · 6 tolerance in
--       us · 7 deadline in ms, 0 for none · 8 '1' where 429s teach a rate · 9 the bucket's name · 10 the job's age in the
--       queue · 11 when it is to be looked at there in any case, in ms
-- Returns  {1 parked, due in ms} · {0 not ours any more, 0} · {2 the deadline comes first: still ours, still pending, 0}
-- Guarantees  The bucket is closed in every case: the 429 was received. The job moves at most once. Done by a full Redis too:
--         its first write cannot grow. O(log parked).

local now_us = limiter_now()
local bucket = limiter_open(redis.call('GET', KEYS[5]), limiter_rate(ARGV[5], ARGV[6], 0, 0), now_us)
limiter_close(bucket, now_us, tonumber(ARGV[4]), ARGV[8] == '1')

-- A full Redis refuses a script whose first write may grow, and takes what follows one that cannot: this one does nothing.
redis.call('XACK', KEYS[1], 'workers', '0-0')

local verdict, due_ms = 0, 0
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 1 then
  local slot, deadline = math.max(now_us, bucket.closed, bucket.late), tonumber(ARGV[7])
  if deadline > 0 and slot >= deadline * 1000 then
    verdict = 2
  else
    if KEYS[7] then
      redis.call('ZADD', KEYS[7], ARGV[10], ARGV[2])
      verdict, due_ms = 1, tonumber(ARGV[11])
    else
      -- It was its turn: it goes before those that have not been called.
      verdict, due_ms = 1, limiter_line_up(bucket, now_us) / 1000
    end
    redis.call('XACK', KEYS[1], 'workers', ARGV[1])
    redis.call('XDEL', KEYS[1], ARGV[1])
    redis.call('HDEL', KEYS[2], ARGV[2])
    redis.call('ZADD', KEYS[3], string.format('%.3f', due_ms), ARGV[2])
    redis.call('HSET', KEYS[4], ARGV[2], ARGV[3])
  end
end
limiter_save(KEYS[5], bucket, now_us)

-- Which buckets have met a 429 lately: the latest, as long as a rate is remembered.
local now_ms = math.floor(now_us / 1000)
redis.call('ZADD', KEYS[6], now_ms, ARGV[9])
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now_ms - FORGET_US / 1000)
redis.call('ZREMRANGEBYRANK', KEYS[6], 0, -1001)
redis.call('PEXPIRE', KEYS[6], FORGET_US / 1000)
return {verdict, math.ceil(due_ms)}
