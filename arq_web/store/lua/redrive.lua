-- redrive: put a dead, cancelled or expired job back into its queue, with fresh counters. The attempt keeps growing.
-- Returns 'redriven', 'live' (it has not ended), 'succeeded', 'absent', or 'held' (its unique key has another holder).
local id = ARGV[1]
local nonce = ARGV[2] -- makes a second sending of the same request say the same

local j = read(redis.call('GET', base .. 'j:' .. id))
if not j then return 'absent' end
if j.token == nonce then return 'redriven' end
if j.state == 'c' then return 'succeeded' end
if not TERMINAL[j.state] then return 'live' end
local holder = j.unique ~= '-' and redis.call('GET', base .. 'u:' .. j.unique)
if holder and holder ~= id then return 'held' end
redis.call('ZREM', DEAD, id)
j.state, j.failures, j.crashes, j.token, j.since, j.due, j.flags = 'q', 0, 0, nonce, now_ms, 0, '-'
j.spec = string.gsub(j.spec, '^(%S+ %S+ %S+) %d+', '%1 0', 1) -- its time to start has passed: it is asked for again
write(id, j)
if j.aside then redis.call('PERSIST', base .. 'p:' .. id) end
if j.unique ~= '-' then redis.call('SET', base .. 'u:' .. j.unique, id) end
make_ready(id, j, now_us)
count('redriven', 1)
return 'redriven'
