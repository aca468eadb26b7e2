-- declare: make a schedule known. Another spec than the stored one (or none): the last to declare writes its own.
-- Returns {now_ms, next tick ms}. The key outlives its tick by a week, so that what is no longer declared goes.
local name = ARGV[1]
local fingerprint = ARGV[2]
local first_tick_ms = tonumber(ARGV[3])

local key = base .. 's:' .. name
local tick, stored = string.match(redis.call('GET', key) or '', '^(%d+) (%S+) %d+$')
if stored ~= fingerprint then
  tick = first_tick_ms
  redis.call('SET', key, tick .. ' ' .. fingerprint .. ' 0')
end
redis.call('PEXPIREAT', key, math.max(tonumber(tick), now_ms) + WEEK_MS)
return { now_ms, tonumber(tick) }
