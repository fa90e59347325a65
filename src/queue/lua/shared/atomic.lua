-- atomic.lua: makes the writes for each job in a script all-or-nothing. (Placed before every script that writes for
-- jobs.)
--
-- Redis does not roll a script back: if a command fails, the earlier writes stay. So each job's writes are made by
-- `write` and `append`, which record how to undo them, inside `all_or_nothing`, which undoes them if one fails. Other
-- clients see a script as one step, so they never see an entry that was added and deleted in it.

local undo = {}

-- The consumer of deliveries that no worker has: entries that were delivered and that another program took off the
-- pending list. A worker takes them over after a lease.
local ADRIFT = 'adrift'

-- Whether a reply of redis.pcall is an error.
local function is_error(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

-- Runs a command that must succeed. `inverse` (a command as a table, or nil) undoes it. Raises `COMMAND key: reason`.
local function write(inverse, command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if is_error(reply) then
    error(command .. ' ' .. key .. ': ' .. reply.err, 0)
  end
  if inverse then
    undo[#undo + 1] = inverse
  end
  return reply
end

-- Records how to undo the last write.
local function remember(inverse)
  undo[#undo + 1] = inverse
end

-- Appends an entry to a stream.
local function append(key, ...)
  local id = redis.pcall('XADD', key, '*', ...)
  if is_error(id) then
    error('XADD ' .. key .. ': ' .. id.err, 0)
  end
  undo[#undo + 1] = {'XDEL', key, id}
  return id
end

-- Undoes everything written since the undo log had this length.
local function take_back(length)
  for i = #undo, length + 1, -1 do
    redis.pcall(unpack(undo[i]))
    undo[i] = nil
  end
end

-- Calls `change` with the arguments that follow. Returns nothing, or the reason why it failed; all its writes are then
-- undone.
local function all_or_nothing(change, ...)
  local length = #undo
  local done, why = pcall(change, ...)
  if not done then
    take_back(length)
    return type(why) == 'table' and why.err or tostring(why)
  end
end

-- Runs a command whose failure does not matter, such as a counter or an expiry. Returns nothing, or the reason why it
-- failed.
local function courtesy(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if is_error(reply) then
    return command .. ' ' .. key .. ': ' .. reply.err
  end
end

-- Whether a delivery is on a consumer's pending list.
local function is_pending(stream, entry, consumer)
  local rows = redis.pcall('XPENDING', stream, 'workers', entry, entry, 1, consumer)
  return not is_error(rows) and #rows == 1
end
