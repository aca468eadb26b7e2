-- cancel: end a job that waits; ask for the end of one that runs.
-- Returns 'cancelled', 'requested', 'finished' (it had ended otherwise) or 'absent'. Safe to send twice.
local id = ARGV[1]

local j = read(redis.call('GET', base .. 'j:' .. id))
if not j then return 'absent' end
if j.state == 'x' then return 'cancelled' end
if TERMINAL[j.state] then return 'finished' end
if j.state == 'r' then
  if not flagged(j, 'c') then
    set_flag(j, 'c')
    write(id, j)
  end
  return 'requested'
end
redis.call('ZREM', READY, id)
redis.call('ZREM', DUE, id)
finish(id, j, 'x', j.keep_ms, '')
count('cancel', 1)
return 'cancelled'
