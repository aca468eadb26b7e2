-- _mark: say of a running attempt what its record is to remember until it ends. Needs _places.
-- Returns 1, or 0 when the attempt does not own the job any more (nothing is written).
local function mark(id, attempt, token, flag)
  local j = read_many({ id })[1]
  if not j or j.state ~= 'r' or j.attempt ~= attempt or j.token ~= token then return 0 end
  if flagged(j, flag) then return 1 end
  check_indexes()
  redis.call('ZREM', LEASES, '') -- a write that a full Redis accepts: what follows then passes
  set_flag(j, flag)
  write(id, j)
  return 1
end
