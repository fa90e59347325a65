-- feed.lua: enqueues the next rows of a backfill and says up to which row that was, in one step. (atomic.lua stands before.)
--
-- KEYS  1 jobs:bulk · 2 the backfill's checkpoint
-- ARGV  1 the run, as it took the backfill over · 2 the mark as the run knows it · 3 the mark after these rows · 4 the
--       checkpoint's life in s · then the rows' jobs (<= 256)
-- Returns  1 enqueued · 2 they were before, by this run: an answer was lost · 0 another run has the backfill now, or the
--          checkpoint is gone: nothing is done. An error: nothing is done either.
-- Guarantees  No row is enqueued twice, whoever feeds and whatever is killed: a mark is passed once. All rows are enqueued and
--          the mark is set, or nothing is done, whichever command fails. O(rows).

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
-- What takes rows back must be permitted before the first is enqueued.
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
