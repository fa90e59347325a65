-- preflight.lua: proves that everything a worker does in a partition is permitted and finds keys of the right kind.
-- (fields.lua stands before this text.)
--
-- KEYS  the partition's fixed keys · then six keys to probe with: stream, hash, sorted set, list, string, set
-- ARGV  1 how many fixed keys · then fields of the last fixed key that must be whole numbers
-- Returns  {commands that failed: name, message, name, message … · each fixed key's type, or the message with which Redis
--       refused to tell · each fixed key's last generated id where it is a stream, else '' · the fields' values, '' where
--       there is none · {now in ms}, empty where Redis does not tell}
-- Guarantees  Changes nothing but the probe keys, and deletes those; where deleting is forbidden they expire. Done by a full
--       Redis too: its first write cannot grow. Safe to repeat. O(keys).

local fixed = tonumber(ARGV[1])
local stream, hash, zset, list, text, set = unpack(KEYS, fixed + 1, fixed + 6)
local failed = {}

-- Runs one command and notes it where it fails. A command that contains others is noted with the one that was run.
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
-- Of these some fail where one before them was forbidden and the group is missing: what was forbidden counts.
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
