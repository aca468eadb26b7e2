-- blame: a suspect runs in its worker after all, since no child process can load its task. Should the worker be lost, that is held
-- against the job again: without a child of its own nothing else tells what it does.
-- Returns 1, or 0 when the attempt does not own the job any more (nothing is written). Uses _places, _owned.
local id = ARGV[1]
local attempt = tonumber(ARGV[2])
local token = ARGV[3]

local j = owned(id, attempt, token)
if not j then return 0 end
if not flagged(j, 'i') then return 1 end
check_indexes()
redis.call('ZREM', LEASES, '') -- a write that a full Redis accepts: what follows then passes
j.flags = only(j, 'i')
write(id, j)
return 1
