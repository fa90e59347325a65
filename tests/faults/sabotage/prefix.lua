-- Stands before a script's own text and hides `redis` behind a table that refuses commands as it is told by the last of ARGV, a
-- JSON object: {script, log, k, reads, text, again, forbid, key, trace}. Everything that is not refused goes through.
local redis = (function()
  local real = redis
  local spec = cjson.decode(table.remove(ARGV))
  local reads = {}
  for name in string.gmatch('acl bitcount dbsize echo exists get getbit getrange hexists hget hgetall hkeys hlen hmget hrandfield ' ..
    'hscan hstrlen hvals info lindex llen lrange mget object ping pttl scard sismember smembers smismember strlen time ttl type ' ..
    'xinfo xlen xpending xrange xread xrevrange zcard zcount zlexcount zmscore zrange zrangebylex zrangebyscore zrank zrevrange ' ..
    'zrevrangebyscore zrevrank zscore', '%S+') do
    reads[name] = true
  end
  -- What is refused from now on, by key; and what was done, by command and key: Redis does not refuse that later in a script.
  local count, refused, done = 0, {}, {}

  local function note(what, command, key)
    real.pcall('RPUSH', spec.log, string.format('%s\t%s\t%d\t%s\t%s', what, spec.script, count, command, key))
    real.pcall('LTRIM', spec.log, -5000, -1)
  end

  -- Why the command is refused; nothing where it is not.
  local function refusal(command, ...)
    local arguments = {...}
    command = string.lower(command)
    -- Of a container command the key comes after the subcommand.
    local container = command == 'xgroup' or command == 'xinfo' or command == 'object'
    local key = tostring(arguments[container and 2 or 1] or '')
    local writes = not reads[command]
    if writes or spec.reads then
      count = count + 1
      if spec.trace then
        note('trace', command, key)
      end
    end
    local replaces = command == 'del' or command == 'unlink' or command == 'rename'
    local why
    if spec.forbid and spec.forbid == command then
      why = "NOPERM this user has no permissions to run the '" .. command .. "' command"
    elseif spec.key and spec.key == key and not replaces and command ~= 'exists' and command ~= 'type' then
      why = 'WRONGTYPE Operation against a key holding the wrong kind of value'
    elseif spec.k and (writes or spec.reads) and count == spec.k then
      refused[key] = spec.again and not done[command .. ' ' .. key] and command
      why = spec.text
    elseif refused[key] == command then
      why = spec.text
    end
    -- Whoever puts a key of a wrong type out of the way has an empty one.
    if replaces and not why then
      if spec.key == key then
        spec.key = nil
      end
      if refused[key] and string.find(spec.text, 'WRONGTYPE', 1, true) then
        refused[key] = nil
      end
    end
    if why then
      note('refused', command, key)
    else
      done[command .. ' ' .. key] = true
    end
    return why
  end

  -- Where Redis itself refuses something, nothing else is refused in this run: what takes back the rest was permitted before.
  local function alone()
    spec.k = nil
  end

  return setmetatable({
    call = function(...)
      local why = refusal(...)
      if not why then
        local reply = real.pcall(...)
        if type(reply) ~= 'table' or not reply.err then
          return reply
        end
        alone()
        why = reply.err
      end
      -- From 7.0 on what a command raises is a table.
      if real.REDIS_VERSION_NUM then
        error({err = why})
      end
      error(why, 0)
    end,
    pcall = function(...)
      local why = refusal(...)
      if not why then
        local reply = real.pcall(...)
        if type(reply) == 'table' and reply.err then
          alone()
        end
        return reply
      end
      return {err = why}
    end,
  }, {__index = real})
end)()
