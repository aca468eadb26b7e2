-- progress: note how far a running attempt is. Returns 1, or 0 when it does not own the job any more (nothing is written).
local id = ARGV[1]
local attempt = tonumber(ARGV[2])
local token = ARGV[3]
local note = ARGV[4]

local j = read_many({ id })[1]
if not j or j.state ~= 'r' or j.attempt ~= attempt or j.token ~= token then return 0 end
j.note = note
write(id, j)
return 1
