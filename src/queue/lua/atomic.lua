-- atomic.lua: all or nothing for each job inside a script. (Stands before every script that writes for jobs.)
--
-- Redis does not roll a script back: when a command fails, what was written before it stays. So each job's writes are made
-- by `write` and `append`, which remember how to take them back, inside `all_or_nothing`, which does so when one fails. A
-- script is atomic to everybody else: an entry that is added and deleted in it was never seen.

local undo = {}

-- The consumer of deliveries that nobody holds: entries that were delivered once and that a foreign hand took off the pending
-- list. After a lease a worker takes them over.
local ADRIFT = 'adrift'

-- Whether a reply of redis.pcall is an error.
local function is_error(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

-- Runs a command that must succeed; `inverse` (a command as a table, or nil) takes it back. Raises `COMMAND key: reason`.
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

-- Remembers how to take back what was just written.
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

-- Takes back what was written since the undo log had this length.
local function take_back(length)
  for i = #undo, length + 1, -1 do
    redis.pcall(unpack(undo[i]))
    undo[i] = nil
  end
end

-- Calls `change` with what follows. Returns nothing, or why it failed: then everything it wrote is taken back.
local function all_or_nothing(change, ...)
  local length = #undo
  local done, why = pcall(change, ...)
  if not done then
    take_back(length)
    return type(why) == 'table' and why.err or tostring(why)
  end
end

-- Runs a command whose failure stops nothing: a counter, an expiry. Returns nothing, or why it failed.
local function courtesy(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if is_error(reply) then
    return command .. ' ' .. key .. ': ' .. reply.err
  end
end

-- Whether a delivery is on the pending list of a consumer.
local function is_pending(stream, entry, consumer)
  local rows = redis.pcall('XPENDING', stream, 'workers', entry, entry, 1, consumer)
  return not is_error(rows) and #rows == 1
end
