-- bring_forward.lua: gives jobs that wait for a limit earlier due times after an operator raised it, ends the lines of
-- their buckets, and gives buckets the level that goes with the new times. (Needs limiter.lua before it.)
--
-- KEYS  1 delayed · then buckets (<= 1000)
-- ARGV  1 number of jobs (<= 1000) · for each job: origin · its due time as it was read · its new due time, in ms · then
--       for each bucket: the time in us beyond which it may have no reservation, or '' to end its line
-- Returns  the number of jobs that were moved.
-- Guarantees  Moves only jobs whose due time is still the one that was read, and none to a later time. A job that comes
--             earlier than its bucket has room waits in the bucket's line, so no limit is exceeded. Safe to repeat.
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

-- Returns the text with the double at a position (from 1) replaced, if that one is greater.
local function lowered(raw, at, most)
  if struct.unpack('<d', raw, at) <= most then
    return raw
  end
  return string.sub(raw, 1, at - 1) .. struct.pack('<d', most) .. string.sub(raw, at + 8)
end

-- Calls that were made are counted apart from reservations (`spent`), so this lets no more calls through. In the former
-- line, the first of the new times would be after the last of the old ones.
local LEVEL_AT, LATE_AT = 1, 57
for i = 2, #KEYS do
  local raw = limiter_read(KEYS[i])
  if raw and #raw == HISTORY_BYTES then
    local level = ARGV[3 * count + i]
    local new
    if level == '' then
      new = lowered(raw, LATE_AT, limiter_now())
    else
      new = lowered(raw, LEVEL_AT, tonumber(level))
    end
    local life = redis.call('PTTL', KEYS[i])
    if new ~= raw and life > 0 then
      redis.call('SET', KEYS[i], new, 'PX', life)
    end
  end
end
return moved
