-- measure: what a queue holds, and how long its oldest job has waited for a worker. Where several processes would say the same,
-- one of them says it: `leader` takes the lead or keeps it for `lead_ms`, and is not answered while another has it.
-- Returns {now_ms, ready, scheduled, running, dead, rejects, age in ms of the oldest ready job}, or {now_ms}.
local leader = ARGV[1] -- '-' asks without leading
local lead_ms = ARGV[2]

if leader ~= '-' then
  local before = redis.pcall('GET', base .. 'lead') -- an error where it is not ours: then it is overwritten
  if type(before) == 'string' and before ~= leader then return { now_ms } end
  redis.call('ZREM', LEASES, '') -- a write that a full Redis accepts: what follows then passes
  redis.call('SET', base .. 'lead', leader, 'PX', lead_ms)
end

-- Jobs that are due wait for a worker too: where none is left, nobody promotes them.
local overdue = redis.call('ZCOUNT', DUE, '-inf', now_ms)
local first_due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
local age_ms = overdue > 0 and now_ms - tonumber(first_due[2]) or 0
local BAND, from = 8e14, '-inf' -- see place_of: the first of each priority is its oldest
for _ = -10, 10 do
  local first = redis.call('ZRANGEBYSCORE', READY, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not first[1] then break end
  local band = math.floor(tonumber(first[2]) / BAND)
  age_ms = math.max(age_ms, math.floor((now_us - (tonumber(first[2]) - band * BAND)) / 1000))
  from = string.format('%.0f', (band + 1) * BAND)
end
local dead, rejects = redis.pcall('ZCARD', DEAD), redis.pcall('LLEN', REJECTS)
return {
  now_ms, redis.call('ZCARD', READY) + overdue, redis.call('ZCARD', DUE) - overdue, redis.call('ZCARD', LEASES),
  type(dead) == 'number' and dead or 0, type(rejects) == 'number' and rejects or 0, age_ms,
}
