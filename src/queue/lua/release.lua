-- release.lua: calls up jobs that a rule paused which is over, or that a breaker put aside which is closed (or one of them, to
-- find out), in the order in which they were enqueued. (order.lua stands before this text.)
--
-- KEYS  1 delayed · 2 held · 3 held:<rule>
-- ARGV  1 the rule's name · 2 the most to call up (<= 500)
-- Returns  how many notes are left.
-- Guarantees  A job that waits for something else by now (its score is another than the one noted) is left alone. Where a
--         command fails nothing is lost: a note goes after its job was called up, and the rule's name after the last note.
--         O(released · log parked).

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
