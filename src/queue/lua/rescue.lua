-- rescue.lua: one step through the deliveries of a stream that are pending, and through those that should be: takes over what
-- nobody has renewed for the lease of its holder. (atomic.lua stands before this text.)
--
-- KEYS  1 the stream
-- ARGV  1 consumer · 2 its lease in ms · 3 the most to take over · 4 where to begin on the pending list (an entry id, or '-') ·
--       5 how many to look at there (<= 1000) · 6 '1' where idle times are to begin anew (the clock stepped) · 7 the most bytes
--       of a field that are kept · 8 the longest lease of all workers in ms · 9 how many workers are known by a heartbeat · then
--       for each of them: its consumer · its lease in ms · ms since its last heartbeat · then the entry ids that were idle for
--       a lease before
-- Returns  {where to go on ('' at the end), idle now, taken over, removed}. Idle now, flat: entry id that nobody has renewed for
--          a lease · that lease in ms; one of them that stood in ARGV is taken over. Taken over, flat: entry id · deliveries (those to holders that
--          lived on without renewing left out: they never began, their read's reply was lost) · then the fields job,
--          state, parent, generation ('' where there is none). Removed, flat: entry id · its consumer: pending for a lease, and its entry was removed by a foreign hand.
-- Guarantees  What its holder renews is never taken, also after the clock has stepped ahead: it must be idle in two steps between
--         which its holder has had the time to renew. The holder's own lease counts, where a heartbeat tells it, else the longest
--         of all. Larger jobs never leave Redis. O(looked at · log pending + taken over).

local lease_ms, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local leases, silences = {[ADRIFT] = lease_ms}, {[ARGV[1]] = 0}
local first = 10
for _ = 1, tonumber(ARGV[9]) do
  leases[ARGV[first]] = tonumber(ARGV[first + 1])
  silences[ARGV[first]] = tonumber(ARGV[first + 2])
  first = first + 3
end
leases[ARGV[1]] = lease_ms
local longest_ms = tonumber(ARGV[8])

-- Whether the holder of a delivery is known to have lived on after it should have renewed it (it does so four times a lease).
local function never_began(owner, idle_ms, holders_ms)
  local silent_ms = silences[owner]
  return silent_ms ~= nil and idle_ms - silent_ms > holders_ms / 2
end

local before = {}
for i = first, #ARGV do
  before[ARGV[i]] = true
end

local idle, taken, removed = {}, {}, {}

local function found_idle(id, holders_ms)
  idle[#idle + 1], idle[#idle + 2] = id, holders_ms
end

local FIELDS = {job = 3, state = 4, parent = 5, generation = 6}

local function describe(id, deliveries, fields)
  local row = {id, deliveries, '', '', '', ''}
  for i = 1, #fields, 2 do
    local place = FIELDS[fields[i]]
    if place then
      row[place] = string.sub(fields[i + 1], 1, ARGV[7])
    end
  end
  for _, value in ipairs(row) do
    taken[#taken + 1] = value
  end
end

local rows = redis.call('XPENDING', KEYS[1], 'workers', ARGV[4], '+', ARGV[5])
local took = 0
for _, row in ipairs(rows) do
  local id, owner, idle_ms, deliveries = row[1], row[2], row[3], row[4]
  if ARGV[6] == '1' then
    if #redis.call('XRANGE', KEYS[1], id, id) == 1 then
      redis.call('XCLAIM', KEYS[1], 'workers', owner, 0, id, 'JUSTID')
    end
  elseif idle_ms >= (leases[owner] or longest_ms) then
    local holders_ms = leases[owner] or longest_ms
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if not entry then
      removed[#removed + 1], removed[#removed + 2] = id, owner
    elseif not before[id] then
      found_idle(id, holders_ms)
    elseif took < most then
      local count = string.format('%.0f', never_began(owner, idle_ms, holders_ms) and deliveries or deliveries + 1)
      if is_error(redis.pcall('XCLAIM', KEYS[1], 'workers', ARGV[1], 0, id, 'RETRYCOUNT', count, 'JUSTID')) then
        -- What was taken over before must be told all the same.
        found_idle(id, holders_ms)
      else
        took = took + 1
        describe(id, count, entry[2])
      end
    else
      found_idle(id, holders_ms)
    end
  end
end
local go_on = ''
if #rows == tonumber(ARGV[5]) then
  go_on = '(' .. rows[#rows][1]
end
return {go_on, idle, taken, removed}
