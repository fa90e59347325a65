-- bucket_peek.lua: returns the current state of a bucket. (Needs atomic.lua, index.lua, limiter.lua and
-- recent.lua before it.)
--
-- KEYS  1 the bucket · 2, 3 the hashes of recent buckets
-- ARGV  1 configured interval in us · 2 tolerance in us
-- Returns  {us between calls, learned from 429s or configured (0: none); us until the next call may go}
-- Guarantees  Changes nothing. O(1).

local now_us = limiter_now()
local bucket = limiter_open(recent_or_own(KEYS[1], {KEYS[2], KEYS[3]}), limiter_rate(ARGV[1], ARGV[2], 0, 0), now_us)
return {math.ceil(bucket.interval), math.ceil(limiter_slot(bucket, now_us) - now_us)}
