-- cancel: end a job that waits; ask for the end of one that runs.
-- Returns 'cancelled', 'requested', 'finished' (it had ended otherwise) or 'absent'. Safe to send twice. Uses _places, _end.
local id = ARGV[1]

local j = read_many({ id })[1]
if not j then return 'absent' end
if j.state == 'x' then return 'cancelled' end
if TERMINAL[j.state] then return 'finished' end
check_indexes()
redis.call('ZREM', READY, id) -- a write that a full Redis accepts: a cancel makes room
redis.call('ZREM', DUE, id)
if j.state == 'r' then
  set_flag(j, 'c')
  write(id, j)
  return 'requested'
end
finish(id, j, 'x', j.keep_ms, '')
save_counts()
return 'cancelled'
