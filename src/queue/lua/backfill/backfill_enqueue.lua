-- backfill_enqueue.lua: enqueues the next rows of a backfill and records how far it got, in one step. (Needs atomic.lua before it.)
--
-- KEYS  1 jobs:bulk · 2 the backfill's checkpoint
-- ARGV  1 the run that took the backfill over · 2 the highest row so far, as the run knows it · 3 the highest row after
--       this call · 4 life of the checkpoint in s · then the jobs of the rows (<= 256)
-- Returns  1 enqueued · 2 this run had enqueued them before: a reply was lost · 0 nothing was done: another run has the
--          backfill now, or the checkpoint is gone. After an error, nothing was done either.
-- Guarantees  No row is enqueued twice, even if several runs are active or are killed, because the highest row is moved
--             forward once. All rows are enqueued and the highest row is set, or nothing is done, whichever command
--             fails. O(rows).

local held = redis.call('HMGET', KEYS[2], 'run', 'mark', 'fed')
local mark = held[2] or '0'
if held[1] ~= ARGV[1] then
  return 0
end
if mark == ARGV[3] then
  return 2
end
if mark ~= ARGV[2] then
  return 0
end
-- The command that removes rows again must be permitted before the first row is enqueued.
redis.call('XDEL', KEYS[1], '0-0')

local function enqueue()
  for i = 5, #ARGV do
    append(KEYS[1], 'job', ARGV[i])
  end
  write(nil, 'HSET', KEYS[2], 'mark', ARGV[3], 'fed', string.format('%.0f', (tonumber(held[3]) or 0) + #ARGV - 4))
end

local why = all_or_nothing(enqueue)
if why then
  return redis.error_reply('FAILED ' .. why)
end
courtesy('EXPIRE', KEYS[2], ARGV[4])
return 1
