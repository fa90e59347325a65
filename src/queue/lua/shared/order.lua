-- order.lua: returns the first jobs of a sorted set. Jobs with equal scores are ordered by when they were enqueued.
-- (Placed before scripts that need it.)

-- If many jobs have one score, this many times the requested number are examined.
local MOST_TIES = 8

-- Sorts origins by their entry ids. A sorted set orders them as text: `…-10` before `…-2`.
local function sort_by_entry(origins)
  local function key(origin)
    local ms, seq = string.match(origin, ':(%d+)%-(%d+)$')
    return tonumber(ms) or 0, tonumber(seq) or 0
  end
  table.sort(origins, function(a, b)
    local a_ms, a_seq = key(a)
    local b_ms, b_seq = key(b)
    if a_ms ~= b_ms then
      return a_ms < b_ms
    end
    if a_seq ~= b_seq then
      return a_seq < b_seq
    end
    return a < b
  end)
end

-- Returns the origins and the scores of the first `most` jobs. `range(n)` returns the first n members of the sorted
-- set, with scores. O(most).
local function first_in_order(range, most)
  local found = range(most + 1)
  if found[2 * most + 2] and found[2 * most + 2] == found[2 * most] then
    found = range(MOST_TIES * most)
  end
  local origins, scores, i = {}, {}, 1
  while i <= #found and #origins < most do
    local ties, score = {}, found[i + 1]
    repeat
      ties[#ties + 1] = found[i]
      i = i + 2
    until found[i + 1] ~= score
    if #ties > 1 then
      sort_by_entry(ties)
    end
    for k = 1, math.min(#ties, most - #origins) do
      origins[#origins + 1], scores[#scores + 1] = ties[k], score
    end
  end
  return origins, scores
end
