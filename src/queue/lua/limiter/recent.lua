-- recent.lua: the buckets that were used lately and have no history, many in one hash. (Placed after atomic.lua,
-- index.lua and limiter.lua, before scripts that use such buckets.)
--
-- Most buckets are a caller's, are within their limit and met no 429: all there is to store is a TAT a few seconds away.
-- Two hashes, `recent:0` and `recent:1`, hold these TATs (8 bytes) by the bucket's key, so that a batch of jobs costs
-- one read and one write. Hash fields have no expiry, so the hashes expire: one is written for half of its life, then
-- the other. A TAT is written only if it is less than that half away. So a hash expires when nothing in it has any effect.
-- The hash that expires later is the one in use.
--
-- A bucket that has a key of its own, because it has a history or is far ahead, is not looked up here: the key counts.

-- Half of the life of a hash, in ms and us.
local RECENT_MS, RECENT_US = 10000, 10000000
local TAT_BYTES = 8

-- How long a hash will live, in ms. A hash without an expiry, because another program or a failed command left it so,
-- counts as the one in use, which gives it an expiry.
local function recent_left(hash)
  local left = redis.call('PTTL', hash)
  return left == -1 and math.huge or left
end

-- Finds the hash in use. Returns its name, the name of the other hash if that still counts, and whether the hash in use
-- must be given an expiry after it is written.
local function recent_now(keys)
  local left, other_left = recent_left(keys[1]), recent_left(keys[2])
  local used, other = keys[1], keys[2]
  if other_left > left then
    used, other, left, other_left = other, used, other_left, left
  end
  if left > 2 * RECENT_MS then
    -- Redis's clock went back, or there is no expiry. The life begins again.
    redis.call('PEXPIRE', used, 2 * RECENT_MS)
  elseif left < RECENT_MS then
    -- The other one has expired, unless another program changed its expiry.
    if other_left ~= -2 then
      redis.call('DEL', other)
    end
    return other, left > 0 and used or nil, true
  end
  return used, other_left > 0 and other or nil, false
end

-- Reads the TATs of the buckets of these keys from a hash, where none is known yet (`found`, by position).
local function recent_read(hash, keys, found)
  local values = slice_get(hash, unpack(keys))
  for i = 1, #values do
    if not found[i] and values[i] and #values[i] == TAT_BYTES then
      found[i] = struct.unpack('<d', values[i])
    end
  end
end

-- Writes keys and TATs, a flat list with packed TATs, to the hash in use. A hash of another type is replaced.
local function recent_write(hash, list, is_new)
  local written = redis.pcall('HSET', hash, unpack(list))
  if is_error(written) then
    if is_no_slice(hash, written) then
      redis.call('DEL', hash)
      is_new = true
    end
    redis.call('HSET', hash, unpack(list))
  end
  if is_new then
    redis.call('PEXPIRE', hash, 2 * RECENT_MS)
  end
end

-- Returns a bucket's stored form: that of its own key if there is one, else its TAT from the hashes, or false.
local function recent_or_own(key, hashes)
  local raw, found = limiter_read(key), {}
  if raw then
    return raw
  end
  local first, second = hashes[1], hashes[2]
  if recent_left(second) > recent_left(first) then
    first, second = second, first
  end
  recent_read(first, {key}, found)
  recent_read(second, {key}, found)
  return found[1] or false
end
