-- rescue.lua: one step through the pending deliveries of a stream: takes over those that were not renewed for the lease
-- of their consumer. (Needs atomic.lua before it.)
--
-- KEYS  1 the stream
-- ARGV  1 consumer · 2 its lease in ms · 3 maximum number to take over · 4 where to begin on the pending list (an entry
--       id, or '-') · 5 how many to examine (<= 1000) · 6 '1' to restart all idle times (the clock stepped) · 7 maximum
--       bytes of a field · 8 longest lease of all workers in ms · 9 number of workers with a heartbeat · then for each
--       of them: its consumer · its lease in ms · ms since its last heartbeat · then the entry ids that were idle for a
--       lease in the previous round
-- Returns  {where to continue ('' at the end), idle, taken over, removed}
--           idle, flat: entry id that was not renewed for a lease · that lease in ms. If the id was in ARGV, it is
--              taken over instead.
--           taken over, flat: entry id · number of deliveries · the fields job, state, parent, generation ('' if
--              missing). A delivery is not counted if its consumer stayed alive without renewing it: the consumer never
--              started it, because the reply to its read was lost.
--           removed, flat: entry id · its consumer. The delivery was idle for a lease, and another program removed its
--              entry.
-- Guarantees  A delivery that its consumer renews is never taken over, even after the clock stepped forward: it must be
--             idle in two steps, and between them the consumer had time to renew it. The lease of the consumer applies,
--             if a heartbeat reports it, else the longest of all. Oversized jobs never leave Redis. O(deliveries
--             examined · log pending + taken over).

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

-- Whether the consumer of a delivery stayed alive after it should have renewed it (it renews four times per lease).
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
        -- Deliveries that were already taken over must still be returned.
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
