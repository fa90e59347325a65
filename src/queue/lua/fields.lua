-- fields.lua: takes the flat lists apart in which Redis describes streams and groups. (Stands before scripts that ask for them.)

-- The values of a flat list by their names. An error has none.
local function fields(list)
  local of = {}
  for i = 1, #list, 2 do
    of[list[i]] = list[i + 1]
  end
  return of
end

-- The group `workers` in an answer of XINFO GROUPS; nothing where there is no such group.
local function workers_group(groups)
  for _, list in ipairs(groups) do
    local group = fields(list)
    if group.name == 'workers' then
      return group
    end
  end
end
