-- clock_put_back.lua: moves delayed jobs back in time, as the clock went.
--
-- KEYS  1 delayed · 2 delayed:jobs
-- ARGV  for each job 4: origin · its state · its state from now on · by how many ms it is due earlier (<= 500 jobs)
-- Returns  how many were moved; the others have another state by now.
-- Guarantees  A job is moved once for a state: whoever comes second finds the other one. O(jobs · log delayed).

local moved = 0
for at = 1, #ARGV, 4 do
  local origin, before = ARGV[at], ARGV[at + 1] .. '\n'
  local kept, due_ms = redis.call('HGET', KEYS[2], origin), redis.call('ZSCORE', KEYS[1], origin)
  if kept and due_ms and string.sub(kept, 1, #before) == before then
    redis.call('ZADD', KEYS[1], 'XX', string.format('%.3f', math.max(due_ms - ARGV[at + 3], 0)), origin)
    redis.call('HSET', KEYS[2], origin, ARGV[at + 2] .. string.sub(kept, #before))
    moved = moved + 1
  end
end
return moved
