-- promote.lua: moves delayed jobs that are due back to their lanes, the earliest first; then bulk jobs that wait for a
-- shared bucket, the oldest first, as many as it has room for. (Needs atomic.lua, limiter.lua, turns.lua and order.lua before
-- it.)
--
-- KEYS  1 delayed · 2 delayed:jobs · 3 due:interactive · 4 due:bulk · then for each shared bucket: the bucket · its
--       queue
-- ARGV  1 maximum number to promote of each kind (<= 500) · then for each shared bucket: interval in us · tolerance in
--       us
-- Returns  {promoted, ms until the next is due (-1 if none is delayed), delayed, unreadable, reasons}. Unreadable jobs
--          have no state; they go to their lane unchanged and are rejected there. Reasons say why jobs could not be
--          promoted.
-- Guarantees  A delayed job is promoted exactly once: `delayed:jobs` decides, and any further entry in a queue or in
--             `delayed` has no effect. Jobs due at the same time go in the order of their entry ids. Whichever command
--             fails, a job is either delayed or in its lane. A job that cannot be promoted is tried again a second
--             later, so that it blocks no other. O(promoted · log delayed).

local now_us = limiter_now()
local now_ms = now_us / 1000
local most = tonumber(ARGV[1])
local promoted, unreadable, reasons = 0, 0, {}
local TRY_AGAIN_MS = 1000

-- The length of each queue, by its position in KEYS.
local waiting = {}
for queue = 6, #KEYS, 2 do
  waiting[queue] = redis.call('ZCARD', KEYS[queue])
end

-- Moves jobs, all of them or none.
local function move(origins, scores, bodies)
  for i, origin in ipairs(origins) do
    local body = bodies[i]
    if body then
      local lane = string.sub(origin, 1, 1) == 'i' and KEYS[3] or KEYS[4]
      local newline = string.find(body, '\n', 1, true)
      if newline then
        append(lane, 'job', string.sub(body, newline + 1), 'state', string.sub(body, 1, newline - 1))
      else
        append(lane, 'job', body)
      end
    end
  end
  local due, jobs = {'ZADD', KEYS[1]}, {'HSET', KEYS[2]}
  for i, origin in ipairs(origins) do
    if scores[i] then
      due[#due + 1], due[#due + 2] = scores[i], origin
    end
    if bodies[i] then
      jobs[#jobs + 1], jobs[#jobs + 2] = origin, bodies[i]
    end
  end
  if #due > 2 then
    write(due, 'ZREM', KEYS[1], unpack(origins))
  end
  if #jobs > 2 then
    write(jobs, 'HDEL', KEYS[2], unpack(origins))
  end
  for queue = 6, #KEYS, 2 do
    if waiting[queue] > 0 then
      local queued = {'ZADD', KEYS[queue]}
      for i, age in ipairs(redis.call('ZMSCORE', KEYS[queue], unpack(origins))) do
        if age then
          queued[#queued + 1], queued[#queued + 2] = age, origins[i]
        end
      end
      if #queued > 2 then
        waiting[queue] = waiting[queue] - write(queued, 'ZREM', KEYS[queue], unpack(origins))
      end
    end
  end
end

local function set_aside(origin, why)
  reasons[#reasons + 1] = why
  courtesy('ZADD', KEYS[1], 'XX', string.format('%.3f', now_ms + TRY_AGAIN_MS), origin)
end

local function promote(origins, scores)
  -- The command that removes entries again must be permitted before the first entry is added.
  redis.call('XDEL', KEYS[3], '0-0')
  redis.call('XDEL', KEYS[4], '0-0')
  local bodies = redis.call('HMGET', KEYS[2], unpack(origins))
  for i = 1, #origins do
    if bodies[i] and not string.find(bodies[i], '\n', 1, true) then
      unreadable = unreadable + 1
    end
  end
  local before = {}
  for queue, count in pairs(waiting) do
    before[queue] = count
  end
  if not all_or_nothing(move, origins, scores, bodies) then
    promoted = promoted + #origins
    return
  end
  -- One lane or one job may be the cause, so each job is tried alone.
  waiting = before
  for i, origin in ipairs(origins) do
    before = {}
    for queue, count in pairs(waiting) do
      before[queue] = count
    end
    local why = all_or_nothing(move, {origin}, {scores[i]}, {bodies[i]})
    if why then
      waiting = before
      set_aside(origin, why)
    else
      promoted = promoted + 1
    end
  end
end

local bound = string.format('%.3f', now_ms)
local due, due_scores = first_in_order(function(count)
  return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', bound, 'WITHSCORES', 'LIMIT', 0, count)
end, most)
if #due > 0 then
  promote(due, due_scores)
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
    local bucket = limiter_open(limiter_read(KEYS[queue - 1]), rate, now_us)
    local room, next_us = limiter_hand_back(bucket, math.min(most, waiting[queue]), now_us)
    if room > 0 then
      local origins, scores = redis.call('ZRANGE', KEYS[queue], 0, room - 1), {}
      for i, origin in ipairs(origins) do
        scores[i] = redis.call('ZSCORE', KEYS[1], origin)
      end
      promote(origins, scores)
    end
    limiter_save(KEYS[queue - 1], bucket, now_us)
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
return {promoted, wait_ms, redis.call('ZCARD', KEYS[1]), unreadable, reasons}
