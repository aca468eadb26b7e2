-- _places: where live jobs stand (ready, due, leased), who is told of it, and what is counted.

-- What is not ours is kept for a week with its raw bytes; it never stops a worker.
local function raw_of(key)
  local raw = redis.pcall('GET', key)
  if type(raw) == 'table' then raw = redis.pcall('DUMP', key) end
  return type(raw) == 'string' and raw or ''
end
local function keep_raw(reason, name, raw)
  local line = table.concat({ now_ms, reason, #name, name .. raw }, '\n')
  if type(redis.pcall('LPUSH', REJECTS, line)) ~= 'number' then return false end -- that list is not ours either
  redis.call('LTRIM', REJECTS, 0, 999)
  redis.call('PEXPIRE', REJECTS, WEEK_MS)
  return true
end

-- A hint that somebody overwrote goes there too, and begins anew: it must not bring the queue to a stand.
local function is_overwritten(name, reply) -- what it answered to a command for its own type
  if type(reply) ~= 'table' or not string.find(reply.err or '', 'WRONGTYPE', 1, true) then return false end
  local raw = raw_of(base .. name)
  redis.call('DEL', base .. name) -- a write that a full Redis accepts: what follows then passes
  keep_raw('overwritten', name, raw)
  return true
end

local woken = false
local function wake()
  local length = not woken and redis.pcall('LLEN', WAKE)
  if length == 0 or is_overwritten('wake', length) then
    if redis.pcall('RPUSH', WAKE, '1') == 1 then redis.pcall('PEXPIRE', WAKE, 60000) end
  end
  woken = true
end

-- Called before the first write by all that move jobs: what raises after it leaves half. Keys beside these three are written
-- so that a foreign type, or a right that the caller has not, is no error: they are hints, lists to look at, news.
local function check_indexes()
  redis.call('ZCARD', READY)
  redis.call('ZCARD', DUE)
  redis.call('ZCARD', LEASES)
end

-- A worker is there. The first write is one that a full Redis accepts; what follows in the same script then passes.
local function show_up(kind, slots, worker, alive_ms)
  is_overwritten('workers', redis.pcall('ZCARD', WORKERS))
  redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now_ms)
  redis.call('ZADD', WORKERS, now_ms + alive_ms, kind .. slots .. ' ' .. worker)
  redis.call('PEXPIRE', WORKERS, alive_ms)
end

local function is_anybody_external()
  for _, member in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    if string.sub(member, 1, 1) == 'x' then return true end
  end
end

-- Position among the ready jobs: priority first, then the time given. Without one: behind all others.
local lined_up = 0
local function place_of(j, position_us)
  lined_up = lined_up + 1 -- jobs of one script keep their order
  return string.format('%.0f', (position_us or now_us + lined_up) - j.priority * 8e14)
end
local function make_ready(id, j, position_us) redis.call('ZADD', READY, place_of(j, position_us), id) end
local function make_due(id, due_ms)
  redis.call('ZADD', DUE, due_ms, id)
  if redis.call('ZRANGE', DUE, 0, 0)[1] == id then wake() end
end

-- What happened, per minute, for three hours. pcall: numbers are not worth a failure.
local tally = {}
local function count(what) tally[what] = (tally[what] or 0) + 1 end
local function save_counts()
  for what, n in pairs(tally) do
    local minute = base .. 'm:' .. math.floor(now_ms / 60000)
    if redis.pcall('HINCRBY', minute, what, n) == n then redis.call('PEXPIRE', minute, 10800000) end
  end
end
