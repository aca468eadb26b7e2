-- abandon: a stopping worker cannot end this attempt (a thread, code that is deaf to its cancellation). It runs until the process
-- ends, so its lease stays; but what takes the job from there, for whatever reason, hands it back unspent: no worker has crashed.
-- Returns 1, or 0 when the attempt does not own the job any more (nothing is written). Uses _places, _owned.
local id = ARGV[1]
local attempt = tonumber(ARGV[2])
local token = ARGV[3]

local j = owned(id, attempt, token)
if not j then return 0 end
if flagged(j, 'a') then return 1 end
check_indexes()
redis.call('ZREM', LEASES, '') -- a write that a full Redis accepts: what follows then passes
set_flag(j, 'a')
write(id, j)
return 1
