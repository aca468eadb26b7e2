-- _record: how a job's record is read, written and ended. Put before every script, so that one place knows the layout.
-- The layout is described in docs/reference/wire-format.md and read by store/record.py.
local base = KEYS[1] -- "<namespace>:1:{<queue>}:", begins every key of the queue
local READY, DUE, LEASES, WAKE = base .. 'ready', base .. 'due', base .. 'leases', base .. 'wake'
local WORKERS, DEAD, REJECTS = base .. 'workers', base .. 'dead', base .. 'rejects'
local INLINE_BYTES = 4096 -- a larger payload lives in a key of its own: transitions rewrite the record
local MIN_KEEP_MS = 60000 -- no record goes within a minute of its end: a lost reply must find it
local WEEK_MS = 604800000
local TERMINAL = { c = true, d = true, x = true, e = true }

local time = redis.call('TIME') -- the only clock: hosts may disagree
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_us = (time[1] - 1735689600) * 1000000 + time[2] -- since 2025, to leave room for priorities in a double

local function read(raw)
  if not raw then return nil end
  local s, a, f, c, note_len, more, spec_at = string.match(raw, '^(%l) (%d+) (%d+) (%d+) (%d+)([^\n]*)\n()')
  if not s then return nil end
  local created, nonce, priority, expires, max_crashes, keep_s, where, unique, task, spec_end =
    string.match(raw, '^(%d+) (%S+) (%-?%d+) (%d+) (%d+) (%d+) ([.+]) (%S+) (%S+)[^\n]*()\n', spec_at)
  if not created then return nil end
  local token, since, started, due, flags, worker = string.match(more, '^ (%S+) (%d+) (%d+) (%d+) (%S+) (%S+)$')
  note_len = tonumber(note_len)
  if #raw < spec_end + note_len then return nil end
  return {
    state = s, attempt = tonumber(a), failures = tonumber(f), crashes = tonumber(c),
    token = token or '-', since = since or '0', started = started or '0', due = due or '0',
    flags = flags or '-', worker = worker or '-',
    created = tonumber(created), nonce = nonce, priority = tonumber(priority), expires = tonumber(expires),
    max_crashes = tonumber(max_crashes), keep_ms = tonumber(keep_s) * 1000, aside = where == '+',
    unique = unique, task = task, spec = string.sub(raw, spec_at, spec_end),
    note = string.sub(raw, spec_end + 1, spec_end + note_len), payload = string.sub(raw, spec_end + note_len + 1),
  }
end

local function write(id, j, ttl_ms)
  local raw = table.concat({ j.state, j.attempt, j.failures, j.crashes, #j.note, j.token, j.since, j.started, j.due,
    j.flags, j.worker }, ' ') .. '\n' .. j.spec .. j.note .. j.payload
  if ttl_ms then redis.call('SET', base .. 'j:' .. id, raw, 'PX', ttl_ms)
  else redis.call('SET', base .. 'j:' .. id, raw) end
  return raw
end

local function flagged(j, flag) return string.find(j.flags, flag, 1, true) ~= nil end
local function set_flag(j, flag)
  if not flagged(j, flag) then j.flags = (j.flags == '-' and '' or j.flags) .. flag end
end

local woken = false
local function wake()
  if woken then return end
  woken = true
  if redis.call('LLEN', WAKE) == 0 then redis.call('RPUSH', WAKE, '1') end
  redis.call('PEXPIRE', WAKE, 60000)
end

-- Position among the ready jobs: priority first, then the time given. Back to the head means: the time of creation.
local function make_ready(id, j, position_us)
  redis.call('ZADD', READY, string.format('%.0f', position_us - j.priority * 8e14), id)
  wake()
end
local function back_to_head(id, j)
  j.state, j.since, j.flags = 'q', now_ms, flagged(j, 'w') and 'w' or '-'
  write(id, j)
  make_ready(id, j, (j.created - 1735689600000) * 1000)
end
local function make_due(id, j, state, due_ms)
  j.state, j.since, j.due = state, now_ms, due_ms
  write(id, j)
  redis.call('ZADD', DUE, due_ms, id)
  if redis.call('ZRANGE', DUE, 0, 0)[1] == id then wake() end
end

local function count(what, n)
  if n == 0 then return end
  local minute = base .. 'm:' .. math.floor(now_ms / 60000)
  if redis.call('HINCRBY', minute, what, n) == n then redis.call('PEXPIRE', minute, 10800000) end
end

-- The one way to an end: the record gets its time to live, the unique key goes, whoever watches is told.
local function finish(id, j, state, keep_ms, note)
  if keep_ms < MIN_KEEP_MS then keep_ms = MIN_KEEP_MS end
  local watched = flagged(j, 'w')
  j.state, j.since, j.note, j.flags = state, now_ms, note, flagged(j, 'n') and 'n' or '-'
  local raw = write(id, j, keep_ms)
  if j.aside then redis.call('PEXPIRE', base .. 'p:' .. id, keep_ms) end
  if j.unique ~= '-' and redis.call('GET', base .. 'u:' .. j.unique) == id then redis.call('DEL', base .. 'u:' .. j.unique) end
  if state == 'd' then
    redis.call('ZREMRANGEBYSCORE', DEAD, '-inf', now_ms - WEEK_MS)
    redis.call('ZADD', DEAD, now_ms, id)
    redis.call('PEXPIRE', DEAD, WEEK_MS)
  end
  if watched then
    for _, channel in ipairs(redis.call('SMEMBERS', base .. 'w:' .. id)) do
      redis.call('PUBLISH', channel, base .. '\n' .. id .. '\n' .. raw)
    end
    redis.call('DEL', base .. 'w:' .. id)
  end
end

-- A lease that ended without a settle, or a child process that died: costs a crash, never a failure.
local function crash(id, j, keep_dead_ms)
  j.crashes = j.crashes + 1
  if flagged(j, 'c') then finish(id, j, 'x', j.keep_ms, '')
  elseif j.crashes >= j.max_crashes then
    local lost = '{"reason":"lost_worker","type":"LostWorker","message":"the process that ran it died ' .. j.crashes .. ' times"}'
    finish(id, j, 'd', keep_dead_ms, lost)
  else back_to_head(id, j) end
  return j.state
end

-- What is not ours is kept for a week with its raw bytes, and counted; it never stops a worker.
local function reject(id, reason)
  local key = base .. 'j:' .. id
  local raw = redis.pcall('GET', key)
  if type(raw) == 'table' then raw = redis.pcall('DUMP', key) end
  if type(raw) ~= 'string' then raw = '' end
  redis.call('DEL', key)
  redis.call('LPUSH', REJECTS, table.concat({ now_ms, reason, #id, id .. raw }, '\n'))
  redis.call('LTRIM', REJECTS, 0, 999)
  redis.call('PEXPIRE', REJECTS, WEEK_MS)
end

-- One command for all; a key of another type reads as missing.
local function read_many(ids)
  local jobs = {}
  for first = 1, #ids, 1000 do -- unpack has a limited stack
    local keys = {}
    for i = first, math.min(first + 999, #ids) do keys[#keys + 1] = base .. 'j:' .. ids[i] end
    for i, raw in ipairs(redis.call('MGET', unpack(keys))) do jobs[first + i - 1] = read(raw) end
  end
  return jobs
end
