-- _record: how a job's record is read and written. Put before every script, so that one place knows the layout.
-- It is described in docs/reference/wire-format.md and read by store/record.py.
local base = KEYS[1] -- "<namespace>:1:{<queue>}:", begins every key of the queue
local READY, DUE, LEASES, WAKE = base .. 'ready', base .. 'due', base .. 'leases', base .. 'wake'
local WORKERS, DEAD, REJECTS = base .. 'workers', base .. 'dead', base .. 'rejects'
local WEEK_MS = 604800000
local LATEST_MS = 99999999999999 -- Lua prints 14 digits; the year 5138 will do
local TERMINAL = { c = true, d = true, x = true, e = true }
local NUMBER = { p = 'priority', e = 'expires', c = 'max_crashes', k = 'keep_s' } -- options of the second line,
local WORD = { n = 'nonce', u = 'unique', a = 'aside', o = 'owner' } --            by their letter
local CLAIM_KEPT_MS = 60000 -- longer than its lease a worker's last claim is known: a late copy of an older one must find it
local DEFAULT_MAX_CRASHES, DEFAULT_KEEP_S = 3, 3600

local time = redis.call('TIME') -- the only clock: hosts may disagree
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_us = (time[1] - 1735689600) * 1000000 + time[2] -- since 2025, to leave room for priorities in a double

-- Whatever passes here must never raise later: a script that stops half-way has written half. What does not must be found out
-- at once: without %f[%s], which lets a word end only where a space begins, a long line without an end would be tried anew
-- from each of its letters, and 20 kB of garbage would keep Redis for two seconds.
local MOST_DIGITS = 14
local function read(raw)
  if not raw then return nil end
  local state, changes, spec_at, created, task, options, body_at =
    string.match(raw, '^([sqrtcdxe])([^\n]*)\n()(%d+) (%S+)%f[%s]([^\n]*)\n()')
  if not state or #created > MOST_DIGITS then return nil end
  local j = {
    raw = raw, state = state, attempt = 0, failures = 0, crashes = 0, token = '-', since = created, started = 0, due = 0,
    flags = '-', worker = '-', created = tonumber(created), task = task, nonce = '-', priority = 0, expires = 0,
    max_crashes = DEFAULT_MAX_CRASHES, keep_s = DEFAULT_KEEP_S, aside = false, unique = '-', extra = '', note = '',
    spec = string.sub(raw, spec_at, body_at - 1),
  }
  if options ~= '' then
    local words, extra = string.match(options, '^(.-)( {.*)$')
    j.extra = extra or ''
    for letter, value in string.gmatch(words or options, ' (%l)(%S+)') do
      if WORD[letter] then j[WORD[letter]] = value end
      if NUMBER[letter] then
        if not string.find(value, '^%-?%d+$') or #value > MOST_DIGITS then return nil end
        j[NUMBER[letter]] = tonumber(value)
      end
    end
  end
  local note_bytes = 0
  if changes ~= '' then
    local a, f, c, n, token, since, started, due, flags, worker =
      string.match(changes, '^ (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+) (%d+) (%S+) (%S+)$')
    if not a then return nil end
    j.attempt, j.failures, j.crashes, note_bytes = tonumber(a), tonumber(f), tonumber(c), tonumber(n)
    j.token, j.since, j.started, j.due, j.flags, j.worker = token, since, started, due, flags, worker
    if #raw < body_at + note_bytes - 1 then return nil end
    j.note = string.sub(raw, body_at, body_at + note_bytes - 1)
  end
  j.keep_ms, j.payload = j.keep_s * 1000, string.sub(raw, body_at + note_bytes)
  return j
end

-- What never changes: options only where they are not the default, so that most jobs spend no byte on them.
local function spec_of(j)
  return j.created .. ' ' .. j.task .. (j.nonce == '-' and '' or ' n' .. j.nonce)
    .. (j.priority == 0 and '' or ' p' .. j.priority) .. (j.expires == 0 and '' or ' e' .. j.expires)
    .. (j.max_crashes == DEFAULT_MAX_CRASHES and '' or ' c' .. j.max_crashes)
    .. (j.keep_s == DEFAULT_KEEP_S and '' or ' k' .. j.keep_s) .. (j.unique == '-' and '' or ' u' .. j.unique)
    .. (j.aside and ' a1' or '') .. (j.owner and ' o' .. j.owner or '') .. j.extra .. '\n'
end

-- 'c' its cancellation was asked for, 'w' somebody watches it, 'f' somebody follows each change, 'n' its result was not kept,
-- 'a' its worker has abandoned it, 'd' it was dismissed, 'i' a suspect, to run in a child process, 's' its
-- worker was lost then and it was spared, 'S' twice.
local function flagged(j, flag) return string.find(j.flags, flag, 1, true) ~= nil end
local function set_flag(j, flag)
  if not flagged(j, flag) then j.flags = (j.flags == '-' and '' or j.flags) .. flag end
end
-- One crash before its end it runs alone, so that only a real killer spends its last crash.
local function is_suspect(j) return j.crashes > 0 and j.crashes >= j.max_crashes - 1 end
-- What was said of an attempt is not true of the next; who looks on stays, and what it was spared.
local function only(j, others)
  local kept = string.gsub(j.flags, others, '')
  return kept == '' and '-' or kept
end
local function only_watched(j) return only(j, '[^wfsS]') end

-- News for whoever looks on: a hint, which must never raise.
local function tell(id, words)
  for _, channel in ipairs(redis.pcall('SMEMBERS', base .. 'w:' .. id)) do redis.pcall('PUBLISH', channel, words) end
end

local function save(id, j, ttl_ms)
  local raw = j.state .. ' ' .. j.attempt .. ' ' .. j.failures .. ' ' .. j.crashes .. ' ' .. #j.note .. ' ' .. j.token .. ' '
    .. j.since .. ' ' .. j.started .. ' ' .. j.due .. ' ' .. j.flags .. ' ' .. j.worker .. '\n' .. j.spec .. j.note .. j.payload
  if ttl_ms then redis.call('SET', base .. 'j:' .. id, raw, 'PX', ttl_ms)
  else redis.call('SET', base .. 'j:' .. id, raw) end
  return raw
end
local function write(id, j, ttl_ms)
  local raw = save(id, j, ttl_ms)
  if flagged(j, 'f') then tell(id, base .. '\n' .. id) end
  return raw
end

-- One command for all; a key of another type reads as missing (false).
local function raw_many(ids)
  local raws = {}
  for first = 1, #ids, 1000 do -- unpack has a limited stack
    local keys = {}
    for i = first, math.min(first + 999, #ids) do keys[#keys + 1] = base .. 'j:' .. ids[i] end
    for i, raw in ipairs(redis.call('MGET', unpack(keys))) do raws[first + i - 1] = raw end
  end
  return raws
end
local function read_many(ids)
  local jobs = {}
  for i, raw in ipairs(raw_many(ids)) do jobs[i] = read(raw) end
  return jobs
end

-- nil when it is gone.
local function payload_of(id, j) return not j.aside and '' or redis.call('MGET', base .. 'p:' .. id)[1] end

-- The live job that holds a unique key. One that ended, or is gone, holds nothing.
local function holder_of(unique)
  local id = unique ~= '-' and redis.call('MGET', base .. 'u:' .. unique)[1]
  local j = id and read_many({ id })[1]
  return j and not TERMINAL[j.state] and id
end
