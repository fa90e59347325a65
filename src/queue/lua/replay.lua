-- replay.lua: moves dead letters back into the bulk lane.
--
-- KEYS  1 dead · 2 due of the bulk lane · 3 the run's receipt · 4 edits · then for each letter the key that reserves its id
--       and, where ARGV says so, its batch
-- ARGV  1 letters · 2 this step's number within the run · 3 partition · 4 digits that are this step's own · 5 dedupe window
--       in ms · 6 batch counters' life in s · 7 who, for edits · then for each letter: entry · job · state · the origin that
--       may hold its id ('' where it is not known) · status under which its batch has
--       counted it: failed, rejected, or new where it has not ('' without a batch) · the job before an edit ('' without one)
-- Returns  one digit a letter: 1 moved · 0 there no more · 2 left where it is: another job has its id by now.
-- Guarantees  A letter is either in dead or in the lane, never in both or neither. Run again after a lost reply the step
--         does nothing and answers the same. O(letters); letters <= 100.

local receipt = redis.call('HMGET', KEYS[3], 'step', 'answer')
if receipt[1] == ARGV[2] then
  return receipt[2]
end

local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
local now, reserved_until = string.format('%.0f', now_ms), string.format('%.0f', now_ms + ARGV[5])

-- The job was counted as ended, and is under way again. A rejected one, or one that an edit brings into the batch, had never
-- been counted as accepted.
local function recount(batch, status)
  if tonumber(redis.call('HGET', batch, status) or 0) > 0 then
    redis.call('HINCRBY', batch, status, -1)
    redis.call('EXPIRE', batch, ARGV[6])
  end
  if status ~= 'failed' then
    redis.call('HINCRBY', batch, 'accepted', 1)
    redis.call('EXPIRE', batch, ARGV[6])
  end
end

local answer, key, at = {}, 4, 8
for i = 1, tonumber(ARGV[1]) do
  local entry, job, state, held_by, status, original = unpack(ARGV, at, at + 5)
  at, key = at + 6, key + 1
  local id_key, batch = KEYS[key], nil
  if status ~= '' then
    key = key + 1
    batch = KEYS[key]
  end
  local holder = redis.call('GET', id_key)
  if #redis.call('XRANGE', KEYS[1], entry, entry) == 0 then
    answer[i] = '0'
  elseif holder and held_by ~= '' and holder ~= held_by then
    answer[i] = '2'
  else
    -- An origin of its own, so that its deadline counts from now; no producer's entry has so long a sequence number.
    local origin = 'bulk:' .. ARGV[3] .. ':' .. now .. '-' .. ARGV[4] .. string.format('%03d', i)
    redis.call('XDEL', KEYS[1], entry)
    redis.call('SET', id_key, origin, 'PXAT', reserved_until)
    redis.call('XADD', KEYS[2], '*', 'job', job, 'state', (string.gsub(state, '"o":"[^"]*"', '"o":"' .. origin .. '"', 1)))
    if batch then
      recount(batch, status)
    end
    if original ~= '' then
      redis.call('XADD', KEYS[4], '*', 'letter', entry, 'who', ARGV[7], 'original', original, 'job', job)
    end
    answer[i] = '1'
  end
end
answer = table.concat(answer)
redis.call('HSET', KEYS[3], 'step', ARGV[2], 'answer', answer)
redis.call('EXPIRE', KEYS[3], 3600)
return answer
