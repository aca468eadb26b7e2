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

-- Since when the others wait, their records say. The first of a priority is not always the one that waits longest: what went
-- back to the head stands where it was when it was created. Behind it all are in the order of their waiting, so looks ever
-- further apart find one that has waited nearly as long as any.
local BAND, PLACES = 8e14, { 0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023 } -- see place_of
local seen, from = {}, '-inf'
for _ = -10, 10 do
  local first = redis.call('ZRANGEBYSCORE', READY, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not first[1] then break end
  local rank, beyond = redis.call('ZRANK', READY, first[1]), (math.floor(tonumber(first[2]) / BAND) + 1) * BAND
  for _, place in ipairs(PLACES) do
    local there = redis.call('ZRANGE', READY, rank + place, rank + place, 'WITHSCORES')
    if not there[1] or tonumber(there[2]) >= beyond then break end
    seen[#seen + 1] = there[1]
  end
  from = string.format('%.0f', beyond)
end
local jobs = read_many(seen)
for i = 1, #seen do
  local j = jobs[i]
  if j and j.state == 'q' then
    local due_ms, since_ms = tonumber(j.due), tonumber(j.since)
    if due_ms > j.created then since_ms = math.min(due_ms, since_ms) end -- promoted late
    age_ms = math.max(age_ms, now_ms - since_ms)
  end
end

local dead, rejects = redis.pcall('ZCARD', DEAD), redis.pcall('LLEN', REJECTS)
return {
  now_ms, redis.call('ZCARD', READY) + overdue, redis.call('ZCARD', DUE) - overdue, redis.call('ZCARD', LEASES),
  type(dead) == 'number' and dead or 0, type(rejects) == 'number' and rejects or 0, age_ms,
}
