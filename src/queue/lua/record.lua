-- record.lua: notes what became of rows of a backfill. (atomic.lua stands before this text.)
--
-- KEYS  1 the backfill's results: four bytes a row, at four times its number · 2 its checkpoint
-- ARGV  1 their life in s · then for each completion (<= 256): row · outcome and error, a character each · calls of the
--       check, calls of the creation (-1: as they were)
-- Returns  {rows that have ended, of these without success}
-- Guarantees  The same completions told again change nothing. A row that has ended stays ended; of two endings the later
--             told counts (a dead letter was replayed), but an unknown one (u) never replaces another. Rows and totals are written together or not at all, whichever command
--             fails. O(completions).

local ended, unsuccessful = 0, 0
local function is_final(outcome)
  return outcome ~= '' and outcome ~= '\0' and outcome ~= 'a'
end
local function fell_short(outcome)
  return outcome ~= '' and string.find('ftkru', outcome, 1, true) and 1 or 0
end

local total, short
local function record()
  for i = 2, #ARGV, 4 do
    local at = ARGV[i] * 4
    local old = redis.call('GETRANGE', KEYS[1], at, at + 3)
    local was, is = string.sub(old, 1, 1), string.sub(ARGV[i + 1], 1, 1)
    if not is_final(was) or is_final(is) and is ~= 'u' then
      local checks, creates = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
      if checks < 0 then
        checks = string.byte(old, 3) or 0
      end
      if creates < 0 then
        creates = string.byte(old, 4) or 0
      end
      write({'SETRANGE', KEYS[1], at, old .. string.rep('\0', 4 - #old)}, 'SETRANGE', KEYS[1], at,
        ARGV[i + 1] .. string.char(checks, creates))
      if is_final(is) then
        ended = ended + (is_final(was) and 0 or 1)
        unsuccessful = unsuccessful + fell_short(is) - fell_short(was)
      end
    end
  end
  local totals = redis.call('HMGET', KEYS[2], 'ended', 'unsuccessful')
  total, short = (tonumber(totals[1]) or 0) + ended, (tonumber(totals[2]) or 0) + unsuccessful
  write(nil, 'HSET', KEYS[2], 'ended', string.format('%.0f', total), 'unsuccessful', string.format('%.0f', short))
end

local why = all_or_nothing(record)
if why then
  return redis.error_reply('FAILED ' .. why)
end
courtesy('EXPIRE', KEYS[1], ARGV[1])
courtesy('EXPIRE', KEYS[2], ARGV[1])
return {total, short}
