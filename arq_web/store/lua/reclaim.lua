-- reclaim: take jobs from workers whose lease has passed: back to the head, or dead when that was one crash too many.
-- Nobody looked for a while (a Redis that stood still, a quiet queue): owners get `grace_ms` to renew first. A worker that is
-- known to be dead gets no time at all: all that it held is taken.
-- Returns {now_ms, grace until ms, earliest lease or 0, id, state now, crashes, worker, task, ...}. Uses _places, _kept, _end.
local limit = tonumber(ARGV[1])
local grace_ms = tonumber(ARGV[2])
local keep_dead_ms = tonumber(ARGV[3])
local dead_from = 4 -- ARGV[4..]: ids of workers whose process has ended

check_indexes()
redis.call('ZREM', LEASES, '') -- a write that a full Redis accepts: what follows then passes
local last, grace_until = string.match(redis.call('MGET', base .. 'reclaimed')[1] or '', '^(%d+) (%d+)$')
last, grace_until = tonumber(last), tonumber(grace_until)
if not last or last > now_ms or now_ms - last > grace_ms then grace_until = now_ms + grace_ms end
redis.call('SET', base .. 'reclaimed', now_ms .. ' ' .. grace_until, 'PX', 60000)
local out = { now_ms, grace_until, 0 }
local ids = now_ms < grace_until and {} or redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_ms, 'LIMIT', 0, limit)
local function take(id, j)
  redis.call('ZREM', LEASES, id)
  redis.pcall('SREM', base .. 'h:' .. j.worker, id)
  j.token = '-' -- its attempt has lost it, also before another begins: a late settle changes nothing
  orphan(id, j, keep_dead_ms)
  for _, value in ipairs({ id, j.state, j.crashes, j.worker, j.task }) do out[#out + 1] = value end
end

local jobs = read_many(ids)
for i, id in ipairs(ids) do
  local j = jobs[i]
  if j and j.state == 'r' then take(id, j)
  else
    redis.call('ZREM', LEASES, id)
    if not j then reject(id, 'leased without a readable record') end
  end
end
for i = dead_from, #ARGV do
  local worker = ARGV[i]
  for _, member in ipairs(redis.pcall('ZRANGE', WORKERS, 0, -1)) do
    if string.match(member, '^%S+ (.*)') == worker then redis.call('ZREM', WORKERS, member) end
  end
  local held = redis.pcall('SMEMBERS', base .. 'h:' .. worker)
  jobs = read_many(held) -- read after those above were taken
  for n, id in ipairs(held) do
    local j = jobs[n]
    if j and j.state == 'r' and j.worker == worker then take(id, j) end
  end
end
out[3] = tonumber(redis.call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2] or 0)
save_counts()
return out
