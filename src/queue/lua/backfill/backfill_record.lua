-- backfill_record.lua: records the results of rows of a backfill. (Needs atomic.lua before it.)
--
-- KEYS  1 the backfill's results: four bytes per row, at four times its number · 2 its checkpoint · 3 the fingerprints of its
--       customers, which live as long
-- ARGV  1 life of these keys in s · then for each completion (<= 256): row · outcome and error, one character each ·
--       calls of the check · calls of the creation (-1: unchanged)
-- Returns  {rows that have completed, rows among them without success}
-- Guarantees  Recording the same completions again changes nothing. A completed row stays completed. Of two
--             completions, the one recorded later counts (a dead letter was replayed), but an unknown result (u) never
--             replaces another, and "needs consent" (e) never replaces "created before" (b). Rows and totals are written
--             together or not at all, whichever command fails. O(completions).

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
    if not is_final(was) or is_final(is) and is ~= 'u' and not (was == 'b' and is == 'e') then
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
courtesy('EXPIRE', KEYS[3], ARGV[1])
return {total, short}
