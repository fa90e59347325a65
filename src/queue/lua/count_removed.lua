-- count_removed.lua: how many entries of a stream were removed before they had ended: trimmed or deleted by a foreign hand.
-- (fields.lua stands before this text.)
--
-- KEYS  1 the stream · 2 meta
-- ARGV  1 the field of meta that keeps how many were reported; with `_at` behind it, when that was, in ms · 2 the answer of the
--       look before, -1 without one
-- Returns  {removed since the group was made (-1 where this Redis cannot tell: before 7.0, or after XGROUP SETID), how many of
--          them are to be reported now}
-- Guarantees  Each is reported once, whoever looks, and only when two looks agree, since one may come in the middle of something. A
--         report whose answer is lost is lost. O(1). Entries that were deleted one by one, not trimmed, may be missed.

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
  return math.max(0, stream['entries-added'] - group['entries-read'] - (stream.length - group.pending))
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
  -- The group was made anew, or all of them were under way and have ended: counting begins anew.
  redis.call('HDEL', KEYS[2], ARGV[1], ARGV[1] .. '_at')
end
return {count, 0}
