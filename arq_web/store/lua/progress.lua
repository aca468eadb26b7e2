-- progress: note how far a running attempt is. Returns 1, or 0 when it does not own the job any more (nothing is written).
-- Uses _owned.
local id = ARGV[1]
local attempt = tonumber(ARGV[2])
local token = ARGV[3]
local note = ARGV[4]

local j = owned(id, attempt, token)
if not j then return 0 end
j.note = note
write(id, j)
return 1
