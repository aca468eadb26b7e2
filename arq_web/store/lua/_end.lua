-- _end: how an attempt gives its job back, and how a job comes to its end. Needs _kept.
local COUNTED = { c = 'complete', x = 'cancel', e = 'expired' } -- the dead: 'bury' or 'lost'

local function free_unique(unique, id)
  if unique ~= '-' and redis.pcall('GET', base .. 'u:' .. unique) == id then redis.call('DEL', base .. 'u:' .. unique) end
end

-- The one way to an end: the record gets its time to live, the unique key goes, whoever watches is told.
local function finish(id, j, state, keep_ms, note)
  if flagged(j, 'd') then keep_ms, note = 0, '' end -- dismissed: nobody is to see what it came to
  local watched, gone_at = flagged(j, 'w'), keep_ms < MIN_KEEP_MS and now_ms + math.max(keep_ms, 0) or 0
  keep_ms = math.min(math.max(keep_ms, MIN_KEEP_MS), LATEST_MS)
  j.state, j.since, j.due, j.note, j.flags = state, now_ms, gone_at, note, only(j, '[^nd]')
  local raw = write(id, j, keep_ms)
  if j.aside then redis.call('PEXPIRE', base .. 'p:' .. id, keep_ms) end
  free_unique(j.unique, id)
  if state == 'd' and not flagged(j, 'd') then list_dead(id, keep_ms) end
  if watched then
    tell(id, base .. '\n' .. id .. '\n' .. raw)
    redis.call('DEL', base .. 'w:' .. id)
  end
  if COUNTED[state] then count(COUNTED[state]) end
end

-- An attempt that did not end leaves its job at the head: where it was when it was created.
local function back_to_head(id, j)
  j.state, j.since, j.due, j.flags = 'q', now_ms, now_ms, only_watched(j)
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
  if flagged(j, 'a') then return release(id, j) end
  j.crashes = j.crashes + 1
  count('crash')
  if flagged(j, 'c') then return finish(id, j, 'x', j.keep_ms, '') end
  if j.crashes < j.max_crashes then return back_to_head(id, j) end
  lose(id, j, keep_dead_ms, 'lost_worker', 'LostWorker', 'the process that ran it died ' .. j.crashes .. ' times')
end

-- Its worker is gone. A suspect went with it, and may be innocent: its own death is that of its child, which its worker would have
-- told. Spared twice, and no more: what kills the worker along with the child is to end, too.
local function orphan(id, j, keep_dead_ms)
  if not flagged(j, 'i') or flagged(j, 'a') or flagged(j, 'c') or flagged(j, 'S') then return crash(id, j, keep_dead_ms) end
  set_flag(j, flagged(j, 's') and 'S' or 's')
  release(id, j)
end

-- What is no job of ours goes to the rejects, and is counted.
local function reject(id, reason)
  local key = base .. 'j:' .. id
  local raw = raw_of(key)
  -- Its unique key goes too, when enough of it can be read; whatever says so is asked whether it is this job's.
  for unique in string.gmatch(string.match(string.sub(raw, 1, 2048), '^[^\n]*\n[^\n]*') or '', ' u(%S+)') do
    free_unique(unique, id)
  end
  if keep_raw(reason, id, raw) then redis.call('DEL', key, base .. 'p:' .. id)
  else -- then it stays where it is for as long
    redis.call('PEXPIRE', key, WEEK_MS)
    redis.call('PEXPIRE', base .. 'p:' .. id, WEEK_MS)
  end
  count('reject')
end
