-- count_removed.lua: how many entries of a stream were removed before they were read: trimmed or deleted by a foreign hand.
--
-- KEYS  1 the stream
-- Returns  their number since the group was made; -1 where this Redis cannot tell (before 7.0, or after XGROUP SETID)
-- Guarantees  Changes nothing. O(1). Entries that were deleted one by one, not trimmed, may be missed.

local function fields(list)
  local of = {}
  for i = 1, #list, 2 do
    of[list[i]] = list[i + 1]
  end
  return of
end

local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if info.err or groups.err then
  return -1
end
local stream = fields(info)
for _, list in ipairs(groups) do
  local group = fields(list)
  if group.name == 'workers' and stream['entries-added'] and group['entries-read'] then
    local waiting = stream.length - group.pending
    return math.max(0, stream['entries-added'] - group['entries-read'] - waiting)
  end
end
return -1
