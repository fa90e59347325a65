-- replay.lua: moves dead letters back into the bulk lane. (Needs atomic.lua and index.lua before it.)
--
-- KEYS  1 dead · 2 due of the bulk lane · 3 the run's last step and answer, and how many it moved · 4 edits · 5 the index of ids · 6 the list
--       of ids that former versions reserved · then for each dead letter its batch, if ARGV has a status
-- ARGV  1 number of dead letters · 2 number of this step within the run · 3 partition · 4 digits that are unique to
--       this step · 5 dedupe window in ms · 6 life of batch counters in s · 7 the operator, for edits · 8 width of a
--       slice in ms · 9 life of a slice in ms · then for each dead letter: entry · id · job · state · the origin that may still have reserved its id ('' if unknown) · the status
--       under which its batch counted it: failed, rejected, or new if it did not ('' without a batch) · the job before
--       an edit ('' without one)
-- Returns  one digit per dead letter: 1 moved · 0 no longer there · 2 not moved, because another job has its id now.
--          After an error, no dead letter of this step was moved.
-- Guarantees  A dead letter is either in dead or in the lane, never in both or neither. Repeated after a lost reply,
--             the step does nothing and returns the same answer. The dead letters of a step are moved together with the
--             record of the step, or none is, whichever command fails. O(dead letters); dead letters <= 100.

local receipt = redis.call('HMGET', KEYS[3], 'step', 'answer', 'moved')
if receipt[1] == ARGV[2] then
  return receipt[2]
end

local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
local now, window_ms, width_ms = string.format('%.0f', now_ms), tonumber(ARGV[5]), tonumber(ARGV[8])
local index = index_open(KEYS[5], window_ms, width_ms, now_ms, now_ms, now_ms)
local slice = slice_number(index, now_ms)
local near = slices_near(index, slice)
local recounts = {}

local function move(entry, id, job, state, original, number)
  -- A new origin, so that the deadline counts from now. No producer's entry has a sequence number as long as this one.
  local place = now .. '-' .. ARGV[4] .. string.format('%03d', number)
  local origin = 'bulk:' .. ARGV[3] .. ':' .. place
  append(KEYS[2], 'job', job, 'state', (string.gsub(state, '"o":"[^"]*"', '"o":"' .. origin .. '"', 1)))
  local here = slice_key(index, slice)
  local before = slice_get(here, id)[1]
  local inverse = before and {'HSET', here, id, before} or {'HDEL', here, id}
  slice_put(index, slice, tonumber(ARGV[9]), {id, 'b' .. place}, inverse)
  if original ~= '' then
    append(KEYS[4], 'letter', entry, 'who', ARGV[7], 'original', original, 'job', job)
  end
end

-- Whether another job than the one at this origin has reserved an id, within the last window.
local function is_taken(id, held_by)
  if held_by == '' then
    return false
  end
  local own = string.sub(held_by, 1, 1) .. (string.match(held_by, '%d+%-%d+$') or '')
  for _, key in ipairs(near) do
    local holder = holder_and_end(slice_get(key, id)[1] or '')
    if holder and holder ~= own and now_ms - enqueued_ms(holder, now_ms) < window_ms then
      return true
    end
  end
  if redis.call('TYPE', KEYS[6]).ok == 'none' then
    return false
  end
  local former = redis.pcall('GET', string.sub(KEYS[6], 1, -2) .. ':' .. id)
  -- A key that is not a string reserves nothing.
  return not is_error(former) and former and former ~= held_by
end

local function replay()
  local answer, moved, key, at = {}, {}, 6, 10
  for i = 1, tonumber(ARGV[1]) do
    local entry, id, job, state, held_by, status, original = unpack(ARGV, at, at + 6)
    at = at + 7
    if status ~= '' then
      key = key + 1
    end
    if #redis.call('XRANGE', KEYS[1], entry, entry) == 0 then
      answer[i] = '0'
    elseif is_taken(id, held_by) then
      answer[i] = '2'
    else
      move(entry, id, job, state, original, i)
      moved[#moved + 1] = entry
      if status ~= '' then
        recounts[#recounts + 1] = {KEYS[key], status}
      end
      answer[i] = '1'
    end
  end
  answer = table.concat(answer)
  local before = {'DEL', KEYS[3]}
  if receipt[1] then
    before = {'HSET', KEYS[3], 'step', receipt[1], 'answer', receipt[2] or '', 'moved', receipt[3] or 0}
  end
  local total = (tonumber(receipt[3] or 0) or 0) + #moved
  write(before, 'HSET', KEYS[3], 'step', ARGV[2], 'answer', answer, 'moved', string.format('%.0f', total))
  write(nil, 'EXPIRE', KEYS[3], 3600)
  if #moved > 0 then
    -- This is the last write, because it cannot be undone.
    write(nil, 'XDEL', KEYS[1], unpack(moved))
  end
  return answer
end

-- The command that removes entries again must be permitted before the first entry is added.
redis.call('XDEL', KEYS[2], '0-0')
local answer
local why = all_or_nothing(function()
  answer = replay()
end)
if why then
  return redis.error_reply('FAILED ' .. why)
end

-- The batch counted these jobs as ended, and they now run again. A rejected job, or one that an edit brings into the
-- batch, was never counted as accepted. A failed counter does not matter.
for _, recount in ipairs(recounts) do
  local batch, status = recount[1], recount[2]
  local counted = redis.pcall('HGET', batch, status)
  if not is_error(counted) and (tonumber(counted or 0) or 0) > 0 then
    courtesy('HINCRBY', batch, status, -1)
  end
  if status ~= 'failed' then
    courtesy('HINCRBY', batch, 'accepted', 1)
  end
  courtesy('EXPIRE', batch, ARGV[6])
end
return answer
