-- learned.lua: the learned rates and closures of buckets that met a 429 lately. The only reader of such a record besides
-- limiter.lua, which stands before this text.
--
-- KEYS  1 learned
-- ARGV  1 the most buckets to report (<= 1000) · 2 what bucket keys begin with · 3 the one bucket to report, '' for the latest
-- Returns  for each bucket, the latest 429 first: name · learned rate as grown by now, calls a second ('0': none) · closed until,
--       ms · 429s in a row · last 429, ms (a flat array of texts). A bucket whose last 429 is ten minutes old is left out.
-- Guarantees  Changes nothing. The buckets' keys bear the hash tag of KEYS[1]. O(buckets reported).

local now_us = limiter_now()
local none = limiter_rate(0, 0, 0, 0)
local latest
if ARGV[3] == '' then
  latest = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', math.floor((now_us - FORGET_US) / 1000), 'WITHSCORES', 'LIMIT', 0,
    ARGV[1])
else
  latest = {ARGV[3], redis.call('ZSCORE', KEYS[1], ARGV[3]) or '0'}
end
local report = {}
for i = 1, #latest, 2 do
  local bucket = limiter_open(limiter_read(ARGV[2] .. latest[i]), none, now_us)
  if bucket.closed > 0 then
    -- Because no rate is configured here, the interval is the learned one, if any.
    local rate = bucket.interval > 0 and 1000000 / bucket.interval or 0
    for _, text in ipairs({latest[i], string.format('%.3f', rate), string.format('%.0f', math.floor(bucket.closed / 1000)),
      string.format('%.0f', bucket.strikes), latest[i + 1]}) do
      report[#report + 1] = text
    end
  end
end
return report
