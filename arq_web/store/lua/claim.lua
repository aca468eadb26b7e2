-- claim: promote what is due, then take up to `limit` ready jobs under a lease.
-- The same token again returns the same jobs: a lost reply loses nothing and costs nothing.
-- Returns {now_ms, next due_ms or 0, number of leases, ready jobs left, standby, id, record, payload kept aside or '', ...};
-- standby is 1 when this (embedded) worker took nothing because an external one is alive.
local worker = ARGV[1]
local kind = ARGV[2] -- 'x' external, 'e' embedded, 's' embedded that stands back for external ones
local token = ARGV[3]
local limit = tonumber(ARGV[4])
local lease_ms = tonumber(ARGV[5])
local alive_ms = tonumber(ARGV[6])
local keep_dead_ms = tonumber(ARGV[7])

-- The first write is one that a full Redis accepts; what follows in the same script then passes.
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now_ms)
redis.call('ZADD', WORKERS, now_ms + alive_ms, kind .. ' ' .. worker)
redis.call('PEXPIRE', WORKERS, alive_ms)
local last_claim = base .. 'k:' .. worker
local out = { now_ms, 0, 0, 0, 0 }
local function hand_out(id, raw, j)
  out[#out + 1] = id
  out[#out + 1] = raw
  out[#out + 1] = j.aside and redis.call('GET', base .. 'p:' .. id) or ''
end
local function expired(id, j)
  if j.expires == 0 or j.expires > now_ms then return false end
  finish(id, j, 'e', j.keep_ms, j.note)
  count('expired', 1)
  return true
end
local function promote()
  local ids = redis.call('ZRANGEBYSCORE', DUE, '-inf', now_ms, 'LIMIT', 0, 500)
  if #ids == 0 then return end
  redis.call('ZREM', DUE, unpack(ids))
  local jobs = read_many(ids)
  for i, id in ipairs(ids) do
    local j = jobs[i]
    if not j then reject(id, 'due without a readable record')
    elseif (j.state == 's' or j.state == 't') and not expired(id, j) then
      j.state, j.since, j.due = 'q', now_ms, 0
      write(id, j)
      make_ready(id, j, now_us + i)
    end
  end
end
local function take(n)
  local popped = redis.call('ZPOPMIN', READY, n)
  local ids, leases = {}, {}
  for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
  local jobs, taken = read_many(ids), {}
  for i, id in ipairs(ids) do
    local j = jobs[i]
    if not j then reject(id, 'ready without a readable record')
    elseif j.aside and redis.call('EXISTS', base .. 'p:' .. id) == 0 then
      finish(id, j, 'd', keep_dead_ms, '{"reason":"lost_payload","type":"LostPayload","message":"its arguments are gone from Redis"}')
    elseif j.state == 'q' and not expired(id, j) then
      j.state, j.attempt, j.token, j.since, j.started, j.worker = 'r', j.attempt + 1, token, now_ms, now_ms, worker
      hand_out(id, write(id, j), j)
      taken[#taken + 1] = id
      leases[#leases + 1] = now_ms + lease_ms
      leases[#leases + 1] = id
    end
  end
  if #taken > 0 then
    redis.call('ZADD', LEASES, unpack(leases))
    redis.call('SADD', base .. 'h:' .. worker, unpack(taken))
    redis.call('PEXPIRE', base .. 'h:' .. worker, lease_ms * 8)
    redis.call('SET', last_claim, token .. ' ' .. table.concat(taken, ' '), 'PX', lease_ms)
  end
  return #taken, #ids
end

local last = redis.call('GET', last_claim)
if last and string.sub(last, 1, #token + 1) == token .. ' ' then
  local ids = {}
  for id in string.gmatch(string.sub(last, #token + 2), '%S+') do ids[#ids + 1] = id end
  for i, j in pairs(read_many(ids)) do
    if j.state == 'r' and j.token == token then hand_out(ids[i], redis.call('GET', base .. 'j:' .. ids[i]), j) end
  end
else
  if kind == 's' then
    for _, member in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
      if string.sub(member, 1, 1) == 'x' then out[5] = 1 end
    end
  end
  promote()
  local free, seen = out[5] == 1 and 0 or math.min(limit, 1000), 1
  while free > 0 and seen > 0 do
    local taken
    taken, seen = take(free)
    free = free - taken
  end
end
out[2] = tonumber(redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2] or 0)
out[3] = redis.call('ZCARD', LEASES)
out[4] = redis.call('ZCARD', READY)
if out[4] > 0 then wake() end
return out
