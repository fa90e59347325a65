-- fields.lua: reads the flat lists in which Redis describes streams and groups. (Placed before scripts that need it.)

-- Returns the values of a flat list by their names. Empty for an error.
local function fields(list)
  local of = {}
  for i = 1, #list, 2 do
    of[list[i]] = list[i + 1]
  end
  return of
end

-- Returns the group `workers` from an answer of XINFO GROUPS, or nothing if it does not exist.
local function workers_group(groups)
  for _, list in ipairs(groups) do
    local group = fields(list)
    if group.name == 'workers' then
      return group
    end
  end
end
