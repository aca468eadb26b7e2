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

-- Since when the others wait, their records say. The first of a priority has waited longest, unless it went back to the head: it
-- stands where it was when it was created. Behind such ones, looks ever further apart find one that has waited nearly as long
-- as any.
local BAND, PLACES = 8e14, { 0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023 } -- see place_of
local function waits_since(j)
  local due_ms, since_ms = tonumber(j.due), tonumber(j.since)
  return due_ms > j.created and math.min(due_ms, since_ms) or since_ms -- promoted late, it waits since it was due
end
local from = '-inf'
for _ = -10, 10 do
  local there, rank = redis.call('ZRANGEBYSCORE', READY, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1), nil
  if not there[1] then break end
  local band, first = math.floor(tonumber(there[2]) / BAND), there[1]
  for _, place in ipairs(PLACES) do
    if place > 0 then
      rank = rank or redis.call('ZRANK', READY, first)
      there = redis.call('ZRANGE', READY, rank + place, rank + place, 'WITHSCORES')
    end
    local score = tonumber(there[2] or 'inf')
    if score >= (band + 1) * BAND then break end
    local j = read_many({ there[1] })[1]
    if j and j.state == 'q' then
      age_ms = math.max(age_ms, now_ms - waits_since(j))
      local stands_since = 1735689600000 + (score - band * BAND) / 1000
      if waits_since(j) < stands_since + 1000 then break end -- those behind it came later
    end
  end
  from = string.format('%.0f', (band + 1) * BAND)
end
local dead, rejects = redis.pcall('ZCARD', DEAD), redis.pcall('LLEN', REJECTS)
return {
  now_ms, redis.call('ZCARD', READY) + overdue, redis.call('ZCARD', DUE) - overdue, redis.call('ZCARD', LEASES),
  type(dead) == 'number' and dead or 0, type(rejects) == 'number' and rejects or 0, age_ms,
}
