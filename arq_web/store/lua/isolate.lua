-- isolate: this attempt runs alone in a child process, since its job may be one that kills. If the child dies, its worker says so; if
-- the worker dies, something else may be to blame: that costs nothing, twice (_end).
-- Returns 1, or 0 when the attempt does not own the job any more (nothing is written). Uses _places, _mark.
local id = ARGV[1]
local attempt = tonumber(ARGV[2])
local token = ARGV[3]

return mark(id, attempt, token, 'i')
