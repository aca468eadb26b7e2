-- declare: make a schedule known. Another spec than the stored one (or none): the last to declare writes its own.
-- Returns {now_ms, next tick ms}. The key outlives its tick by a week, so that what is no longer declared goes.
local name = ARGV[1]
local fingerprint = ARGV[2]
local first_tick_ms = ARGV[3]

local key = base .. 's:' .. name -- "<next tick ms> <fingerprint> <last tick ms>[ <who skipped that>]"
local tick_ms, stored = string.match(redis.call('MGET', key)[1] or '', '^(%d+) (%S+) ')
if stored ~= fingerprint then
  tick_ms = first_tick_ms
  redis.call('SET', key, tick_ms .. ' ' .. fingerprint .. ' 0')
end
redis.call('PEXPIREAT', key, math.max(tonumber(tick_ms), now_ms) + WEEK_MS)
return { now_ms, tonumber(tick_ms) }
