-- watch: the record of a job that has ended, or a promise to publish on `channel`: the record when it ends, and before that, if
-- `follow` is 1, a word whenever the record changes. Returns {'ended', record}, {'watching', record} or {'absent'}.
-- Again each half minute: the promise lasts one.
local id = ARGV[1]
local channel = ARGV[2]
local follow = ARGV[3]

local j = read_many({ id })[1]
if not j then return { 'absent' } end
if TERMINAL[j.state] then return { 'ended', j.raw } end
redis.call('SADD', base .. 'w:' .. id, channel)
redis.call('PEXPIRE', base .. 'w:' .. id, 60000)
local before = j.flags
set_flag(j, 'w')
if follow == '1' then set_flag(j, 'f') end
if j.flags ~= before then save(id, j) end -- and tell nobody: nothing that they look at has changed
return { 'watching', j.raw }
