-- run_claim.lua: takes a run of a replay or a discard for the process that will do it. (Needs atomic.lua
-- before it.)
--
-- KEYS  1 runs, by start · 2 runs that go on, by heartbeat · 3 the run
-- ARGV  1 name of the run · 2 digest of what it is asked to do · 3 token of the process · 4 silence in ms after which a
--       process is gone · 5 maximum number of runs that go on · 6 life of a run in s · 7 maximum number of runs in the
--       list · 8 how many of the next arguments are set also where the run is taken over · then fields and values
-- Returns  1 new · 2 taken over from a process that is gone or has given it back · 0 it goes on, has ended or was
--          stopped · -1 too many runs go on · -2 a run with this name does something else
-- Guarantees  Of two processes, one gets the run. Safe to repeat. The run is written last: after an error, at most its
--             name is in a list, which is harmless. O(runs that go on + fields).

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local name, token, silence = ARGV[1], ARGV[3], tonumber(ARGV[4])
local known = redis.call('HMGET', KEYS[3], 'digest', 'state', 'stop', 'heartbeat', 'owner')
if known[1] then
  if known[1] ~= ARGV[2] then
    return -2
  end
  -- A heartbeat from the future is none: Redis's clock went back.
  local silent = math.abs(now - (tonumber(known[4] or 0) or 0)) > silence
  local free = known[2] == 'interrupted' or (known[2] == 'running' and silent)
  if known[5] ~= token and (known[3] or not free) then
    return 0
  end
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', now - silence))
redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.0f', now + silence), '+inf')
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) and not redis.call('ZSCORE', KEYS[2], name) then
  return -1
end

local at = string.format('%.0f', now)
local fields = {'digest', ARGV[2], 'owner', token, 'state', 'running', 'heartbeat', at}
for i = 9, known[1] and 8 + tonumber(ARGV[8]) or #ARGV do
  fields[#fields + 1] = ARGV[i]
end
redis.call('ZADD', KEYS[2], at, name)
courtesy('EXPIRE', KEYS[2], ARGV[6])
if not known[1] then
  redis.call('ZADD', KEYS[1], at, name)
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[7]))
  courtesy('EXPIRE', KEYS[1], ARGV[6])
  redis.call('HSET', KEYS[3], 'started', at, unpack(fields))
else
  redis.call('HSET', KEYS[3], unpack(fields))
end
courtesy('EXPIRE', KEYS[3], ARGV[6])
return known[1] and 2 or 1
