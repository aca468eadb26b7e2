-- _end: how an attempt gives its job back, and how a job comes to its end.
local MIN_KEEP_MS = 60000 -- no record goes within a minute of its end: a lost reply must find it
local COUNTED = { c = 'complete', x = 'cancel', e = 'expired' } -- the dead: 'bury' or 'lost'

local function free_unique(unique, id)
  if unique ~= '-' and redis.pcall('GET', base .. 'u:' .. unique) == id then redis.call('DEL', base .. 'u:' .. unique) end
end

-- The one way to an end: the record gets its time to live, the unique key goes, whoever watches is told.
local function finish(id, j, state, keep_ms, note)
  keep_ms = math.min(math.max(keep_ms, MIN_KEEP_MS), LATEST_MS)
  local watched = flagged(j, 'w')
  j.state, j.since, j.due, j.note, j.flags = state, now_ms, 0, note, flagged(j, 'n') and 'n' or '-'
  local raw = write(id, j, keep_ms)
  if j.aside then redis.call('PEXPIRE', base .. 'p:' .. id, keep_ms) end
  free_unique(j.unique, id)
  if state == 'd' then
    if type(redis.pcall('ZADD', DEAD, now_ms, id)) == 'number' then
      redis.call('ZREMRANGEBYSCORE', DEAD, '-inf', now_ms - keep_ms) -- their records are gone too
      redis.call('PEXPIRE', DEAD, keep_ms)
    end
  end
  if watched then
    for _, channel in ipairs(redis.pcall('SMEMBERS', base .. 'w:' .. id)) do
      redis.pcall('PUBLISH', channel, base .. '\n' .. id .. '\n' .. raw)
    end
    redis.call('DEL', base .. 'w:' .. id)
  end
  if COUNTED[state] then count(COUNTED[state]) end
end

-- An attempt that did not end leaves its job at the head: where it was when it was created.
local function back_to_head(id, j)
  j.state, j.since, j.flags = 'q', now_ms, flagged(j, 'w') and 'w' or '-'
  write(id, j)
  make_ready(id, j, (j.created - 1735689600000) * 1000)
  wake()
end

-- Unspent. A cancellation that was asked for is not forgotten.
local function release(id, j)
  if flagged(j, 'c') then return finish(id, j, 'x', j.keep_ms, '') end
  back_to_head(id, j)
  count('release')
end

-- Dead, and not by its own failure: no attempt could say so.
local function lose(id, j, keep_dead_ms, reason, kind, message)
  finish(id, j, 'd', keep_dead_ms, '{"reason":"' .. reason .. '","type":"' .. kind .. '","message":"' .. message .. '"}')
  count('lost')
end

-- A lease that ended without a settle, or a child process that died: costs a crash, never a failure.
local function crash(id, j, keep_dead_ms)
  j.crashes = j.crashes + 1
  count('crash')
  if flagged(j, 'c') then return finish(id, j, 'x', j.keep_ms, '') end
  if j.crashes < j.max_crashes then return back_to_head(id, j) end
  lose(id, j, keep_dead_ms, 'lost_worker', 'LostWorker', 'the process that ran it died ' .. j.crashes .. ' times')
end

-- What is not ours is kept for a week with its raw bytes, and counted; it never stops a worker.
local function reject(id, reason)
  local key, raw = base .. 'j:' .. id, redis.pcall('GET', base .. 'j:' .. id)
  if type(raw) == 'table' then raw = redis.pcall('DUMP', key) end
  if type(raw) ~= 'string' then raw = '' end
  -- Its unique key goes too, when enough of it can be read; whatever says so is asked whether it is this job's.
  for unique in string.gmatch(string.match(string.sub(raw, 1, 2048), '^[^\n]*\n[^\n]*') or '', ' u(%S+)') do
    free_unique(unique, id)
  end
  if type(redis.pcall('LPUSH', REJECTS, table.concat({ now_ms, reason, #id, id .. raw }, '\n'))) == 'number' then
    redis.call('LTRIM', REJECTS, 0, 999)
    redis.call('PEXPIRE', REJECTS, WEEK_MS)
    redis.call('DEL', key, base .. 'p:' .. id)
  else -- that list is not ours: then it stays where it is for as long
    redis.call('PEXPIRE', key, WEEK_MS)
    redis.call('PEXPIRE', base .. 'p:' .. id, WEEK_MS)
  end
  count('reject')
end
