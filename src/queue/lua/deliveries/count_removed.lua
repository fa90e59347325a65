-- count_removed.lua: counts the entries of a stream that another program trimmed or deleted before they had ended.
-- (Needs fields.lua before it.)
--
-- KEYS  1 the stream · 2 meta
-- ARGV  1 the field of meta with the number reported so far; the field with `_at` appended has its time in ms · 2 the
--       count of the previous look, -1 if none · 3 the field of meta with the number of entries that workers took before
--       the group had read them
-- Returns  {removed since the group was created (-1 if this Redis cannot tell: before 7.0, or after XGROUP SETID),
--          number to report now}
-- Guarantees  Each removal is reported once, by one worker, and only if two looks agree, because a single look may come
--             in the middle of an operation. If the reply is lost, the report is lost. O(1). Entries deleted one by
--             one, not trimmed, may be missed.

local function removed()
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if info.err or groups.err then
    return -1
  end
  local stream, group = fields(info), workers_group(groups)
  if not group or not stream['entries-added'] or not group['entries-read'] then
    return -1
  end
  local missing = stream['entries-added'] - group['entries-read'] - (stream.length - group.pending)
  local unread = tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or 0) or 0
  if unread > 0 and missing <= 0 then
    -- The group has read past these entries, and Redis counts them as read.
    redis.call('HDEL', KEYS[2], ARGV[3])
  end
  return math.max(0, missing - unread)
end

local count, before = removed(), tonumber(ARGV[2])
local reported = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0) or 0
if count < 0 or before < 0 then
  return {count, 0}
end
local sure = math.min(count, before)
if sure > reported then
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', sure), ARGV[1] .. '_at',
    string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
  return {count, sure - reported}
end
if reported > 0 and math.max(count, before) == 0 then
  -- The group was created again, or all removed entries were in flight and have ended: counting starts again.
  redis.call('HDEL', KEYS[2], ARGV[1], ARGV[1] .. '_at')
end
return {count, 0}
