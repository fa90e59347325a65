-- index.lua: the index of ids, in which each id leads to where its job was enqueued, and then to where it ended. (Placed
-- after atomic.lua, before scripts that use the index.)
--
-- The index is cut into slices by the time of enqueueing. A slice is a hash, `<index>:<width in ms>:<number>`, of id ->
-- holder, or holder, space, entry in completions. The holder is the first letter of the job's lane and the entry with
-- which it was enqueued. The sorted set `<index>` names the slices that exist, `<width>:<number>` by the time at which
-- each ends. Slices are narrower than the dedupe window, so an id has at most one holder in each.

local byte, sub, HYPHEN = string.byte, string.sub, 45

-- When a holder was enqueued. Never later than now, because a producer may have chosen the entry's id.
local function enqueued_ms(holder, now_ms)
  local ms
  if byte(holder, 15) == HYPHEN then
    -- Times from 2001 to 2286 have 13 digits, and cost no pattern.
    ms = tonumber(sub(holder, 2, 14))
  else
    ms = tonumber(string.match(holder, '(%d+)%-%d+'))
  end
  return ms and ms < now_ms and ms or now_ms
end

-- The holder in a value of a slice, and the entry of its completion if it has ended.
local function holder_and_end(value)
  return string.match(value, '^(%S+) ?(%S*)')
end

-- Whether a key cannot be a slice because it has another type.
local function is_no_slice(key, reply)
  return string.find(reply.err, 'WRONGTYPE', 1, true) and redis.call('TYPE', key).ok ~= 'hash'
end

-- `HMGET` on a slice. A key of another type holds nothing.
local function slice_get(key, ...)
  local values = redis.pcall('HMGET', key, ...)
  if not is_error(values) then
    return values
  end
  if not is_no_slice(key, values) then
    error(values.err, 0)
  end
  return {}
end

-- Opens the index, for jobs enqueued from `first_ms` to `last_ms`.
local function index_open(key, window_ms, width_ms, now_ms, first_ms, last_ms)
  local index = {key = key, window_ms = window_ms, width_ms = width_ms, now_ms = now_ms, others = {}, known = {}}
  index.width = string.format('%.0f', width_ms)
  index.last = math.floor(now_ms / width_ms)
  index.reach = math.ceil(window_ms / width_ms)
  -- Other slices matter as well: of another width, from before the window was configured otherwise; or of a time that
  -- is yet to come, from before the clock went back.
  local after = string.format('(%.0f', first_ms - window_ms)
  local members = redis.call('ZRANGEBYSCORE', key, after, '+inf')
  for _, member in ipairs(members) do
    local width, number = string.match(member, '^(%d+):(%d+)$')
    if width == index.width and tonumber(number) <= index.last then
      index.known[tonumber(number)] = true
    elseif width then
      local begins_ms = width * number
      if begins_ms <= last_ms + window_ms or begins_ms > now_ms then
        index.others[#index.others + 1] = key .. ':' .. member
      end
    end
  end
  return index
end

local function slice_number(index, ms)
  return math.floor(ms / index.width_ms)
end

local function slice_member(index, number)
  return index.width .. ':' .. string.format('%.0f', number)
end

local function slice_key(index, number)
  return index.key .. ':' .. slice_member(index, number)
end

-- The slices that may have an id of a job that is no further than the window from any job in this slice.
local function slices_near(index, number)
  local keys = {}
  for near = math.max(number - index.reach, 0), math.min(number + index.reach, index.last) do
    keys[#keys + 1] = slice_key(index, near)
  end
  for _, key in ipairs(index.others) do
    keys[#keys + 1] = key
  end
  return keys
end

-- Writes ids and holders (a flat list) to a slice, inside `all_or_nothing`. `inverse` undoes the list alone. A key of
-- another type is replaced.
local function slice_put(index, number, life_ms, list, inverse)
  local key = slice_key(index, number)
  if not index.known[number] then
    write(nil, 'ZADD', index.key, string.format('%.0f', (number + 1) * index.width_ms), slice_member(index, number))
    index.known[number] = true
  end
  local written = redis.pcall('HSET', key, unpack(list))
  if is_error(written) then
    if is_no_slice(key, written) then
      write(nil, 'DEL', key)
    end
    write(inverse, 'HSET', key, unpack(list))
  else
    remember(inverse)
  end
  write(nil, 'PEXPIRE', key, string.format('%.0f', life_ms))
end
