-- run_beat.lua: records how far a run of a replay or a discard is, if it is still this process's.
-- (Needs atomic.lua before it.)
--
-- KEYS  1 runs that go on, by heartbeat · 2 the run
-- ARGV  1 name of the run · 2 token of the process · 3 life of a run in s · 4 its state · then fields and values
-- Returns  1 recorded · 2 recorded, and somebody wants it to stop · 0 not recorded: another process has it, or it is gone
-- Guarantees  Safe to repeat. The run is written last. O(fields).

local owner = redis.call('HMGET', KEYS[2], 'owner', 'stop')
if owner[1] ~= ARGV[2] then
  return 0
end
local t = redis.call('TIME')
local at = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
if ARGV[4] == 'running' then
  redis.call('ZADD', KEYS[1], at, ARGV[1])
  courtesy('EXPIRE', KEYS[1], ARGV[3])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('HSET', KEYS[2], 'state', ARGV[4], 'heartbeat', at, unpack(ARGV, 5))
courtesy('EXPIRE', KEYS[2], ARGV[3])
return owner[2] and 2 or 1
