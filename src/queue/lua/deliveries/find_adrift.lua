-- find_adrift.lua: one step through the delivered entries of a stream, for those that no consumer has any more: another
-- program deleted their consumer, acknowledged them, or moved the group forward. They become pending again for the
-- consumer `adrift`, and a worker takes them over after a lease. (Needs atomic.lua and fields.lua before it.)
--
-- KEYS  1 the stream
-- ARGV  1 where to begin (an entry id, or '-') · 2 how many entries to examine (<= 256)
-- Returns  {where to continue ('' at the end), how many were found}
-- Guarantees  Leaves pending entries unchanged. Safe to repeat. O(entries examined · log pending).

local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if is_error(groups) then
  if string.find(groups.err, 'no such key', 1, true) then
    return {'', 0}
  end
  return groups
end
local group = workers_group(groups)
-- From Redis 7, the group reports how many entries were not delivered. If all delivered entries are pending, there is
-- nothing to find.
if not group or group.lag and redis.call('XLEN', KEYS[1]) - group.lag <= group.pending then
  return {'', 0}
end

local entries = redis.call('XRANGE', KEYS[1], ARGV[1], group['last-delivered-id'], 'COUNT', ARGV[2])
if #entries == 0 then
  return {'', 0}
end
local found = {}
for _, entry in ipairs(entries) do
  if #redis.call('XPENDING', KEYS[1], 'workers', entry[1], entry[1], 1) == 0 then
    found[#found + 1] = entry[1]
  end
end
local count = #found
if count > 0 then
  for _, word in ipairs({'RETRYCOUNT', '1', 'FORCE', 'JUSTID'}) do
    found[#found + 1] = word
  end
  redis.call('XCLAIM', KEYS[1], 'workers', ADRIFT, 0, unpack(found))
end
local go_on = ''
if #entries == tonumber(ARGV[2]) then
  go_on = '(' .. entries[#entries][1]
end
return {go_on, count}
