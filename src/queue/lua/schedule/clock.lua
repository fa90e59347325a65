-- clock.lua: looks at Redis's clock, and records when it went back. (Needs fields.lua before it.)
--
-- KEYS  1 meta · 2 jobs of the interactive lane · 3 jobs of the bulk lane
-- ARGV  1 minimum that the clock should show in ms, as far as this worker knows (0: unknown) · 2 after how many ms
--       without a look the clock is no longer trusted
-- Returns  {now in ms, 1 if this look recorded a step, the latest steps: one per line, in order}. A step consists of
--          its number · the clock after it in ms · how far it went back in ms · for each lane the last entry before the
--          step · for each lane the last entry whose time is not trusted, because the clock may have been wrong when it
--          was added.
-- Guarantees  A step is recorded once, even if many workers look. Repeated after a lost reply, it records nothing more.
--             O(groups of a lane).

local STEP_MS, MOST_STEPS = 500, 8
local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)

local function text(ms)
  return string.format('%.0f', ms)
end

local function sortable(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
end

-- Returns the last entry that was ever added to a lane, as far as this is known without reading the whole stream.
local function last_entry(lane)
  local groups, last = redis.pcall('XINFO', 'GROUPS', lane), '0-0'
  if groups.err then
    -- The key is missing or is not a stream: nothing was enqueued.
    return last
  end
  local group = workers_group(groups)
  if group then
    last = group['last-delivered-id']
    if group.lag == 0 then
      return last
    end
  end
  local newest = redis.call('XREVRANGE', lane, '+', '-', 'COUNT', 1)[1]
  if newest and sortable(newest[1]) > sortable(last) then
    return newest[1]
  end
  return last
end

local meta = redis.call('HMGET', KEYS[1], 'latest_ms', 'steps', 'seen_interactive', 'seen_bulk', 'fence_interactive',
  'fence_bulk')
local latest_ms, steps = tonumber(meta[1]) or 0, meta[2] or ''
local seen, fence = {meta[3] or '0-0', meta[4] or '0-0'}, {meta[5] or '0-0', meta[6] or '0-0'}
local here = {last_entry(KEYS[2]), last_entry(KEYS[3])}

local noted = 0
local back_ms = math.max(latest_ms, tonumber(ARGV[1])) - now_ms
if back_ms > STEP_MS then
  noted = 1
  local lines = {}
  for line in string.gmatch(steps, '[^\n]+') do
    lines[#lines + 1] = line
  end
  local number = lines[1] and tonumber(string.match(lines[#lines], '^%d+')) or 0
  lines[#lines + 1] = table.concat({text(number + 1), text(now_ms), text(back_ms), seen[1], seen[2], fence[1], fence[2]}, ' ')
  steps = table.concat(lines, '\n', math.max(1, #lines - MOST_STEPS + 1))
elseif now_ms - latest_ms > tonumber(ARGV[2]) then
  -- No worker looked for a while, or the clock went forward. The two cases look the same.
  fence = here
end
redis.call('HSET', KEYS[1], 'latest_ms', text(now_ms), 'steps', steps, 'seen_interactive', here[1], 'seen_bulk', here[2],
  'fence_interactive', fence[1], 'fence_bulk', fence[2])
return {now_ms, noted, steps}
