-- abandon: a stopping worker cannot end this attempt (a thread, code that is deaf to its cancellation). It runs until the process
-- ends, so its lease stays; but what takes the job from there, for whatever reason, hands it back unspent: no worker has crashed.
-- Returns 1, or 0 when the attempt does not own the job any more (nothing is written). Uses _places, _mark.
local id = ARGV[1]
local attempt = tonumber(ARGV[2])
local token = ARGV[3]

return mark(id, attempt, token, 'a')
