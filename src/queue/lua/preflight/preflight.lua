-- preflight.lua: checks that everything a worker does in a partition is permitted, and that the keys have the right
-- types. (Needs fields.lua before it.)
--
-- KEYS  the fixed keys of the partition · then six keys for the test: stream, hash, sorted set, list, string, set
-- ARGV  1 number of fixed keys · then fields of the last fixed key that must be whole numbers
-- Returns  {failed commands: name, message, name, message … · the type of each fixed key, or the message with which
--          Redis refused to tell · the last generated id of each fixed key that is a stream, else '' · the values of
--          the fields, '' if missing · {now in ms}, empty if Redis does not tell}
-- Guarantees  Changes only the six test keys, and deletes them; if deleting is forbidden, they expire. A full Redis
--             accepts this script too, because its first write cannot grow. Safe to repeat. O(keys).

local fixed = tonumber(ARGV[1])
local stream, hash, zset, list, text, set = unpack(KEYS, fixed + 1, fixed + 6)
local failed = {}

-- Runs a command, and records it if it fails. A command with subcommands is recorded with the subcommand.
local CONTAINERS = {XGROUP = true, XINFO = true, MEMORY = true}
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    local name, first = ...
    failed[#failed + 1] = CONTAINERS[name] and name .. ' ' .. first or name
    failed[#failed + 1] = reply.err
  end
  return reply
end

try('DEL', stream, hash, zset, list, text, set)
local time = try('TIME')

try('SET', text, '1', 'PX', 1000)
try('GET', text)
try('MGET', text, text)
try('PTTL', text)
try('SETRANGE', text, 0, '1')
try('GETRANGE', text, 0, 0)
try('EXPIRE', text, 1)
try('PEXPIRE', text, 1000)

try('RPUSH', list, '1')
try('EXPIRE', list, 1)
try('LINDEX', list, 0)
try('LRANGE', list, 0, 0)
try('LTRIM', list, 0, -1)

try('SADD', set, '1', '2')
try('EXPIRE', set, 1)
try('SMEMBERS', set)
try('SREM', set, '1')

try('HSET', hash, 'a', '1')
try('EXPIRE', hash, 1)
try('HSETNX', hash, 'b', '1')
try('HINCRBY', hash, 'a', 1)
try('HGET', hash, 'a')
try('HMGET', hash, 'a', 'b')
try('HGETALL', hash)
try('HLEN', hash)
try('HSCAN', hash, 0, 'COUNT', 1)
try('HDEL', hash, 'a')

try('ZADD', zset, 1, 'a', 2, 'b', 3, 'c', 4, 'd')
try('EXPIRE', zset, 1)
try('ZSCORE', zset, 'a')
try('ZMSCORE', zset, 'a', 'b')
try('ZCARD', zset)
try('ZCOUNT', zset, '-inf', '+inf')
try('ZRANGE', zset, 0, 0)
try('ZRANGEBYSCORE', zset, '-inf', '+inf', 'LIMIT', 0, 1)
try('ZREVRANGEBYSCORE', zset, '+inf', '-inf', 'LIMIT', 0, 1)
try('ZREM', zset, 'a')
try('ZREMRANGEBYSCORE', zset, '-inf', 2)
try('ZREMRANGEBYRANK', zset, 0, 0)

try('XGROUP', 'CREATE', stream, 'probe', '0', 'MKSTREAM')
try('EXPIRE', stream, 1)
try('XADD', stream, '1-1', 'a', '1')
try('XADD', stream, '1-2', 'a', '1')
try('XLEN', stream)
try('XRANGE', stream, '-', '+', 'COUNT', 1)
try('XREVRANGE', stream, '+', '-', 'COUNT', 1)
-- Some of these also fail if an earlier one was forbidden and the group is missing. The forbidden one counts.
try('XREADGROUP', 'GROUP', 'probe', 'one', 'COUNT', 1, 'STREAMS', stream, '>')
try('XPENDING', stream, 'probe')
try('XCLAIM', stream, 'probe', 'one', 0, '1-1', 'JUSTID')
try('XINFO', 'STREAM', stream)
try('XINFO', 'GROUPS', stream)
try('XINFO', 'CONSUMERS', stream, 'probe')
try('XACK', stream, 'probe', '1-1')
try('XDEL', stream, '1-1')
try('XTRIM', stream, 'MINID', '1-2')
try('XGROUP', 'DELCONSUMER', stream, 'probe', 'one')
try('MEMORY', 'USAGE', stream, 'SAMPLES', 1)

local types, last = {}, {}
for i = 1, fixed do
  local found = try('TYPE', KEYS[i])
  types[i] = found.err or found.ok or ''
  last[i] = ''
  if types[i] == 'stream' then
    last[i] = fields(redis.pcall('XINFO', 'STREAM', KEYS[i]))['last-generated-id'] or ''
  end
end

local values = {}
if types[fixed] == 'hash' and #ARGV > 1 then
  local found = redis.pcall('HMGET', KEYS[fixed], unpack(ARGV, 2))
  for i = 1, #ARGV - 1 do
    values[i] = found[i] or ''
  end
end

try('DEL', stream, hash, zset, list, text, set)
return {failed, types, last, values, {time[1] and time[1] * 1000 + math.floor(time[2] / 1000)}}
