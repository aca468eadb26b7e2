-- watch: the record of a job that has ended, or a promise to publish it on `channel` when it ends.
-- Returns {'ended', record}, {'watching', record} or {'absent'}. Again each half minute: the promise lasts one.
local id = ARGV[1]
local channel = ARGV[2]

local j = read_many({ id })[1]
if not j then return { 'absent' } end
if TERMINAL[j.state] then return { 'ended', j.raw } end
redis.call('SADD', base .. 'w:' .. id, channel)
redis.call('PEXPIRE', base .. 'w:' .. id, 60000)
if not flagged(j, 'w') then
  set_flag(j, 'w')
  write(id, j)
end
return { 'watching', j.raw }
