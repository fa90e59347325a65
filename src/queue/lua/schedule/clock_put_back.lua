-- clock_put_back.lua: makes delayed jobs due earlier, after the clock went back. (Needs atomic.lua before it.)
--
-- KEYS  1 delayed · 2 delayed:jobs
-- ARGV  for each job 4 values: origin · its state · its new state · how many ms earlier it is due (<= 500 jobs)
-- Returns  how many were moved; the others have another state now. After an error, the jobs before the failed one are
--          moved.
-- Guarantees  A job is moved once for each state: a second worker finds the new state and does nothing. Its due time
--             and its state are changed together or not at all. O(jobs · log delayed).

local function move(origin, kept, body, due_ms)
  write({'HSET', KEYS[2], origin, kept}, 'HSET', KEYS[2], origin, body)
  write(nil, 'ZADD', KEYS[1], 'XX', string.format('%.3f', due_ms), origin)
end

local moved = 0
for at = 1, #ARGV, 4 do
  local origin, before = ARGV[at], ARGV[at + 1] .. '\n'
  local kept, due_ms = redis.call('HGET', KEYS[2], origin), redis.call('ZSCORE', KEYS[1], origin)
  if kept and due_ms and string.sub(kept, 1, #before) == before then
    local why = all_or_nothing(move, origin, kept, ARGV[at + 2] .. string.sub(kept, #before), math.max(due_ms - ARGV[at + 3], 0))
    if why then
      return redis.error_reply('FAILED ' .. why)
    end
    moved = moved + 1
  end
end
return moved
