-- bring_forward.lua: gives jobs that wait for a limit earlier due times after an operator raised it, and gives
-- buckets the level that goes with the new times. (Needs limiter.lua before it.)
--
-- KEYS  1 delayed · then buckets (<= 1000)
-- ARGV  1 number of jobs (<= 1000) · for each job: origin · its due time as it was read · its new due time, in ms · then
--       for each bucket: the time in us beyond which it may have no reservation
-- Returns  the number of jobs that were moved.
-- Guarantees  Moves only jobs whose due time is still the one that was read, and none to a later time. A job that comes
--             earlier than its turn waits again, so no limit is exceeded. Safe to repeat.
--             O(jobs · log delayed).

local count = tonumber(ARGV[1])
local moves, moved = {}, 0
for i = 2, 3 * count + 1, 3 do
  local due = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or nil)
  if due and due == tonumber(ARGV[i + 1]) and tonumber(ARGV[i + 2]) < due then
    moves[#moves + 1], moves[#moves + 2] = ARGV[i + 2], ARGV[i]
    moved = moved + 1
  end
end
if moved > 0 then
  redis.call('ZADD', KEYS[1], 'XX', unpack(moves))
end

-- The level is the first value of a bucket. Calls that were made are counted apart from reservations (`spent`), so this
-- lets no more calls through.
for i = 2, #KEYS do
  local raw = limiter_read(KEYS[i])
  if raw and #raw == HISTORY_BYTES then
    local level, life = tonumber(ARGV[3 * count + i]), redis.call('PTTL', KEYS[i])
    if struct.unpack('<d', raw) > level and life > 0 then
      redis.call('SET', KEYS[i], struct.pack('<d', level) .. string.sub(raw, 9), 'PX', life)
    end
  end
end
return moved
