-- redrive: put a dead, cancelled or expired job back into its queue, with fresh counters. The attempt keeps growing.
-- Returns 'redriven', 'live' (it has not ended), 'succeeded', 'absent', or 'held' (its unique key has another holder). Uses _places.
local id = ARGV[1]
local nonce = ARGV[2] -- makes a second sending of the same request say the same, also when a worker has the job already

local j = read_many({ id })[1]
if not j then return 'absent' end
if j.nonce == '-' or string.sub(j.nonce, 1, 1) == '~' then nonce = '~' .. nonce end -- still an id that nobody chose
if j.nonce == nonce then return 'redriven' end
if j.state == 'c' then return 'succeeded' end
if not TERMINAL[j.state] then return 'live' end
if holder_of(j.unique) then return 'held' end
check_indexes()
redis.call('ZREM', DEAD, id)
j.state, j.failures, j.crashes, j.token, j.since, j.due, j.flags = 'q', 0, 0, '-', now_ms, now_ms, '-'
j.nonce, j.expires = nonce, 0 -- its time to start has passed: it is asked for again
j.spec = spec_of(j)
write(id, j)
if j.aside then redis.call('PERSIST', base .. 'p:' .. id) end
if j.unique ~= '-' then redis.call('SET', base .. 'u:' .. j.unique, id) end
make_ready(id, j)
wake()
count('redriven')
save_counts()
return 'redriven'
