-- learned.lua: returns what buckets learned from recent 429s, and until when they are closed. (Needs limiter.lua before
-- it.)
--
-- KEYS  1 learned
-- ARGV  1 maximum number of buckets (<= 1000) · 2 prefix of the buckets' keys
-- Returns  for each bucket that met a 429 in the last ten minutes, the latest first: name · learned rate in calls per
--          second ('0': none) · closed until, ms · consecutive 429s · last 429, ms (a flat array of strings)
-- Guarantees  Changes nothing. The buckets' keys have the hash tag of KEYS[1]. O(buckets returned).

local now_us = limiter_now()
local none = limiter_rate(0, 0, 0, 0)
local latest = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', math.floor((now_us - FORGET_US) / 1000), 'WITHSCORES',
  'LIMIT', 0, ARGV[1])
local told = {}
for i = 1, #latest, 2 do
  local bucket = limiter_open(limiter_read(ARGV[2] .. latest[i]), none, now_us)
  if bucket.closed > 0 then
    -- Because no rate is configured here, the interval is the learned one, if any.
    local rate = bucket.interval > 0 and 1000000 / bucket.interval or 0
    for _, text in ipairs({latest[i], string.format('%.3f', rate), string.format('%.0f', math.floor(bucket.closed / 1000)),
      string.format('%.0f', bucket.strikes), latest[i + 1]}) do
      told[#told + 1] = text
    end
  end
end
return told
