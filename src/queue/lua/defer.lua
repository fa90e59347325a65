-- defer.lua: a call was answered 429: closes its bucket and parks the job behind the closure. (atomic.lua and limiter.lua
-- stand before.)
--
-- KEYS  1 the stream · 2 begun · 3 delayed · 4 delayed:jobs · 5 the bucket · 6 learned · 7 the bucket's queue, where the job
--       is to wait there
-- ARGV  1 entry id · 2 origin · 3 state, newline, job · 4 Retry-After in us, -1 for none · 5 interval in us · 6 tolerance in
--       us · 7 deadline in ms, 0 for none · 8 '1' where 429s teach a rate · 9 the bucket's name · 10 consumer · 11 the job's age
--       in the queue · 12 when it is to be looked at there in any case, in ms
-- Returns  {1 parked, due in ms} · {0 not ours any more, 0} · {2 the deadline comes first: still ours, still pending, 0} ·
--          {3 a command failed: still ours, still pending, 0, reason}
-- Guarantees  The bucket is closed in every case: the 429 was received. The job moves whole or not at all, and at most once.
--         Done by a full Redis too: its first write cannot grow. O(log parked).

local now_us = limiter_now()
local bucket = limiter_open(limiter_read(KEYS[5]), limiter_rate(ARGV[5], ARGV[6], 0, 0), now_us)
limiter_close(bucket, now_us, tonumber(ARGV[4]), ARGV[8] == '1')

-- A full Redis refuses a script whose first write may grow, and takes what follows one that cannot: this one does nothing.
redis.call('XACK', KEYS[1], 'workers', '0-0')

local function park(due_ms)
  write({'HDEL', KEYS[4], ARGV[2]}, 'HSET', KEYS[4], ARGV[2], ARGV[3])
  write({'ZREM', KEYS[3], ARGV[2]}, 'ZADD', KEYS[3], string.format('%.3f', due_ms), ARGV[2])
  if KEYS[7] then
    write({'ZREM', KEYS[7], ARGV[2]}, 'ZADD', KEYS[7], ARGV[11], ARGV[2])
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
-- An entry that a foreign hand trimmed may be pending still: then it is ours, too.
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 1 or is_pending(KEYS[1], ARGV[1], ARGV[10]) then
  local slot, deadline = math.max(now_us, bucket.closed, bucket.late), tonumber(ARGV[7])
  if deadline > 0 and slot >= deadline * 1000 then
    verdict = 2
  else
    if KEYS[7] then
      due_ms = tonumber(ARGV[12])
    else
      -- It was its turn: it goes before those that have not been called.
      due_ms = limiter_line_up(bucket, now_us) / 1000
    end
    why = all_or_nothing(park, due_ms)
    verdict = why and 3 or 1
  end
end
limiter_save(KEYS[5], bucket, now_us)

-- Which buckets have met a 429 lately: the latest, as long as a rate is remembered. Operators see it, and nothing else does.
local now_ms = math.floor(now_us / 1000)
courtesy('ZADD', KEYS[6], now_ms, ARGV[9])
courtesy('ZREMRANGEBYSCORE', KEYS[6], '-inf', now_ms - FORGET_US / 1000)
courtesy('ZREMRANGEBYRANK', KEYS[6], 0, -1001)
courtesy('PEXPIRE', KEYS[6], FORGET_US / 1000)
return {verdict, math.ceil(due_ms), why or ''}
