-- resume_paused.lua: makes jobs due that a rule paused, when it ends, or that a breaker delayed, when it closes (or one of
-- them, as a probe), in the order in which they were enqueued. (Needs order.lua before it.)
--
-- KEYS  1 delayed · 2 held · 3 held:<rule>
-- ARGV  1 name of the rule or breaker · 2 maximum number of jobs (<= 500)
-- Returns  number of records left in held:<rule>.
-- Guarantees  A job that now waits for something else (its score differs from the recorded one) is left alone. If a
--             command fails, nothing is lost: a record is removed after its job was made due, and the rule's name after
--             its last record. O(jobs · log delayed).

local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
local origins, noted = first_in_order(function(count)
  return redis.call('ZRANGE', KEYS[3], 0, count - 1, 'WITHSCORES')
end, tonumber(ARGV[2]))
for i, origin in ipairs(origins) do
  if redis.call('ZSCORE', KEYS[1], origin) == noted[i] then
    local enqueued_ms = tonumber(string.match(origin, ':(%d+)%-%d+$')) or now_ms
    redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', math.min(enqueued_ms, now_ms)), origin)
  end
  redis.call('ZREM', KEYS[3], origin)
end
local left = redis.call('ZCARD', KEYS[3])
if left == 0 then
  redis.call('SREM', KEYS[2], ARGV[1])
end
return left
