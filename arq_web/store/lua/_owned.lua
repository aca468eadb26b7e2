-- _owned: the job of a running attempt, for whoever knows both its number and its token; nil when it is another's.
local function owned(id, attempt, token)
  local j = read_many({ id })[1]
  if j and j.state == 'r' and j.attempt == attempt and j.token == token then return j end
end
