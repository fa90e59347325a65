-- promote.lua: parked jobs whose time has come go back to their lanes, the earliest first.
--
-- KEYS  1 delayed · 2 delayed:jobs · 3 due:interactive · 4 due:bulk
-- ARGV  1 the most to promote (<= 500)
-- Returns  {promoted, ms until the next is due (-1 if none is parked), parked}
-- Guarantees  A parked job is promoted exactly once. O(promoted · log parked).

local t = redis.call('TIME')
local now_ms = t[1] * 1000 + t[2] / 1000
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now_ms), 'LIMIT', 0, ARGV[1])
if #due > 0 then
  local jobs = redis.call('HMGET', KEYS[2], unpack(due))
  for i, origin in ipairs(due) do
    local parked = jobs[i]
    if parked then
      local newline = string.find(parked, '\n', 1, true)
      local lane = string.sub(origin, 1, 1) == 'i' and KEYS[3] or KEYS[4]
      redis.call('XADD', lane, '*', 'job', string.sub(parked, newline + 1), 'state', string.sub(parked, 1, newline - 1))
    end
  end
  redis.call('ZREM', KEYS[1], unpack(due))
  redis.call('HDEL', KEYS[2], unpack(due))
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait_ms = -1
if first[2] then
  wait_ms = math.max(0, math.ceil(first[2] - now_ms))
end
return {#due, wait_ms, redis.call('ZCARD', KEYS[1])}
