-- promote.lua: parked jobs whose time has come go back to their lanes, the earliest first; then bulk jobs that wait for a
-- shared bucket, the oldest first, as many as it has room for. (limiter.lua stands before this text.)
--
-- KEYS  1 delayed · 2 delayed:jobs · 3 due:interactive · 4 due:bulk · then for each shared bucket: the bucket · its queue
-- ARGV  1 the most to promote of each kind (<= 500) · then for each shared bucket: interval in us · tolerance in us
-- Returns  {promoted, ms until the next is due (-1 if none is parked), parked}
-- Guarantees  A parked job is promoted exactly once: `delayed:jobs` decides, and what a queue or `delayed` says beyond it is
--       nothing. O(promoted · log parked).

local now_us = limiter_now()
local now_ms = now_us / 1000
local promoted = 0

-- How many wait in each queue, by its position in KEYS.
local waiting = {}
for queue = 6, #KEYS, 2 do
  waiting[queue] = redis.call('ZCARD', KEYS[queue])
end

local function promote(origins)
  local jobs = redis.call('HMGET', KEYS[2], unpack(origins))
  for i, origin in ipairs(origins) do
    local parked = jobs[i]
    if parked then
      local newline = string.find(parked, '\n', 1, true)
      local lane = string.sub(origin, 1, 1) == 'i' and KEYS[3] or KEYS[4]
      redis.call('XADD', lane, '*', 'job', string.sub(parked, newline + 1), 'state', string.sub(parked, 1, newline - 1))
    end
  end
  redis.call('ZREM', KEYS[1], unpack(origins))
  redis.call('HDEL', KEYS[2], unpack(origins))
  for queue = 6, #KEYS, 2 do
    if waiting[queue] > 0 then
      waiting[queue] = waiting[queue] - redis.call('ZREM', KEYS[queue], unpack(origins))
    end
  end
  promoted = promoted + #origins
end

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now_ms), 'LIMIT', 0, ARGV[1])
if #due > 0 then
  promote(due)
end

local next_ms
local function sooner(at_ms)
  if not next_ms or at_ms < next_ms then
    next_ms = at_ms
  end
end

for queue = 6, #KEYS, 2 do
  if waiting[queue] > 0 then
    local rate = limiter_rate(ARGV[queue - 4], ARGV[queue - 3], 0, 0)
    local bucket = limiter_open(redis.call('GET', KEYS[queue - 1]), rate, now_us)
    local room, next_us = limiter_hand_back(bucket, math.min(tonumber(ARGV[1]), waiting[queue]), now_us)
    if room > 0 then
      promote(redis.call('ZRANGE', KEYS[queue], 0, room - 1))
      limiter_save(KEYS[queue - 1], bucket, now_us)
    end
    if waiting[queue] > 0 then
      sooner(next_us / 1000)
    end
  end
end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[2] then
  sooner(tonumber(first[2]))
end
local wait_ms = next_ms and math.max(0, math.ceil(next_ms - now_ms)) or -1
return {promoted, wait_ms, redis.call('ZCARD', KEYS[1])}
