-- reserve.lua: reserves the ids of a batch of jobs in the index. (Placed after atomic.lua and index.lua, before the script
-- that admits jobs.)
--
-- First all ids are looked up, with one command for each slice. Then each job that is admitted reserves its id. At the end
-- all reservations are written, with one command for each slice.

-- For each id, by its number: the id, its holder, and the values that the index has for the id.
local names, holders, found = {}, {}, {}
-- The index, and the clock by which it was opened.
local index, looked_at_ms
-- The slice in which all jobs with an id were enqueued, as is most common; nothing if there are several.
local only_slice

local function note(number, value)
  local values = found[number]
  if values then
    values[#values + 1] = value
  else
    found[number] = {value}
  end
end

local function slice_of(number)
  return only_slice or slice_number(index, enqueued_ms(holders[number], looked_at_ms))
end

-- Looks up reservations that former versions made: one key for each id, which names origins.
local function look_up_former(former)
  if redis.call('TYPE', former).ok == 'none' then
    return
  end
  local keys, start = {}, sub(former, 1, -2) .. ':'
  for number = 1, #names do
    keys[number] = start .. names[number]
  end
  for number, origins in ipairs(redis.call('MGET', unpack(keys))) do
    for origin in string.gmatch(origins or '', '[^ ]+') do
      note(number, sub(origin, 1, 1) .. (string.match(origin, '%d+%-%d+$') or ''))
    end
  end
end

-- Looks up the ids of jobs that were all enqueued in one slice. `numbers` says which jobs they are.
local function look_up_slice(slice, asked, numbers)
  for _, key in ipairs(slices_near(index, slice)) do
    local values = slice_get(key, unpack(asked))
    for place = 1, #values do
      if values[place] then
        note(numbers and numbers[place] or place, values[place])
      end
    end
  end
end

-- Looks up the ids that ARGV has from `asked.first` on, each followed by its holder. Returns the position behind them.
local function look_up(asked)
  local at = asked.first
  for number = 1, asked.ids do
    names[number], holders[number] = ARGV[at], ARGV[at + 1]
    at = at + 2
  end
  looked_at_ms = asked.now_ms
  index = index_open(asked.index, asked.window_ms, asked.width_ms, asked.now_ms, asked.first_ms, asked.last_ms)
  look_up_former(asked.former)
  if slice_number(index, asked.first_ms) == slice_number(index, asked.last_ms) then
    only_slice = slice_number(index, asked.first_ms)
    look_up_slice(only_slice, names)
    return at
  end
  local of_slice, numbers = {}, {}
  for number = 1, asked.ids do
    local slice = slice_of(number)
    if not of_slice[slice] then
      of_slice[slice], numbers[slice] = {}, {}
    end
    local place = #numbers[slice] + 1
    of_slice[slice][place], numbers[slice][place] = names[number], number
  end
  for slice, some in pairs(of_slice) do
    look_up_slice(slice, some, numbers[slice])
  end
  return at
end

-- What to write to each slice, and which batches to count in afterwards; and the holders, by id, apart by spaces.
local reservations, reserved = {}, {}

-- Whether another job has an id, by what the index has and by the earlier jobs of this request. The second value says
-- whether this job has it already.
local function is_taken(number, others, before)
  local own, taken = holders[number], false
  local ms = enqueued_ms(own, looked_at_ms)
  others = others or {}
  for holder in string.gmatch(before or '', '%S+') do
    others[#others + 1] = holder
  end
  for _, value in ipairs(others) do
    local holder = holder_and_end(value)
    if holder == own then
      return false, true
    end
    taken = taken or math.abs(enqueued_ms(holder, looked_at_ms) - ms) < index.window_ms
  end
  return taken, false
end

-- Reserves an id, unless it is reserved. Returns whether another job has it.
local function reserve(number, batch_key)
  local id, own = names[number], holders[number]
  local others, before = found[number], reserved[id]
  if others or before then
    local taken, has_it = is_taken(number, others, before)
    if taken or has_it then
      return taken
    end
    own = before and before .. ' ' .. own or own
  end
  reserved[id] = own
  local slice = slice_of(number)
  local here = reservations[slice]
  if not here then
    here = {ids = {}, list = {}, batches = {}, count = 0}
    reservations[slice] = here
  end
  local place = here.count + 1
  here.count, here.ids[place], here.list[2 * place - 1], here.list[2 * place] = place, id, id, holders[number]
  if batch_key then
    here.batches[#here.batches + 1] = batch_key
  end
  return false
end

-- Writes the reservations. Returns the batches to count in afterwards; or nothing and why it failed, and the ids of that
-- slice are then free again.
local function write_reservations(life_ms)
  local batches = {}
  for slice, here in pairs(reservations) do
    local inverse = {'HDEL', slice_key(index, slice), unpack(here.ids)}
    local why = all_or_nothing(slice_put, index, slice, life_ms, here.list, inverse)
    if why then
      return nil, string.match(why, '^%S+ %S+: (.*)$') or why
    end
    for _, batch_key in ipairs(here.batches) do
      batches[#batches + 1] = batch_key
    end
  end
  return batches
end
