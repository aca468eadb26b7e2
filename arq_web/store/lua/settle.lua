-- settle: end n attempts, each with an outcome, each only if it is still the owner (attempt and token).
-- Every entry is checked before any is written. Returns one number per entry: 1 recorded, 2 recorded already by this very
-- attempt (the request was sent twice), 3 recorded as cancelled (that was asked for meanwhile; also when sent twice), 0 lost:
-- another attempt owns the job, or its lease was taken away, and nothing was changed. Uses _places, _kept, _plain, _end.
local worker = ARGV[1]
local keep_dead_ms = tonumber(ARGV[2])
local entries_from = 3 -- ARGV[3..]: id, attempt, token, outcome, ms (how long to keep, or to wait), note

local LOST, RECORDED, ALREADY, CANCELLED = 0, 1, 2, 3
local function later(id, j, state, e, what)
  if flagged(j, 'c') then return finish(id, j, 'x', j.keep_ms, '') end
  j.state, j.since, j.due, j.note = state, now_ms, math.min(now_ms + e.ms, LATEST_MS), e.note
  j.flags = only_watched(j)
  write(id, j)
  make_due(id, j.due)
  count(what)
end
local outcomes = {
  complete = function(id, j, e)
    if e.ms == 0 then set_flag(j, 'n') end
    finish(id, j, 'c', e.ms, e.ms == 0 and '' or e.note)
  end,
  retry = function(id, j, e)
    j.failures = j.failures + 1
    later(id, j, 't', e, 'retry')
  end,
  snooze = function(id, j, e) later(id, j, 's', e, 'snooze') end,
  park = function(id, j, e) later(id, j, 's', e, 'park') end,
  bury = function(id, j, e)
    j.failures = j.failures + 1
    if e.ms < 0 then set_flag(j, 'n') end
    finish(id, j, 'd', e.ms == 0 and keep_dead_ms or e.ms, e.ms < 0 and '' or e.note)
    count('bury')
  end,
  cancel = function(id, j, e) finish(id, j, 'x', e.ms == 0 and j.keep_ms or e.ms, e.note) end,
  crash = function(id, j) crash(id, j, keep_dead_ms) end,
  release = function(id, j) release(id, j) end,
  reject = function(id, j, e) reject(id, e.note) end, -- claimed, but the worker cannot read it
}

local ids, entries, answers, owned, owner, jobs, completed = {}, {}, {}, {}, {}, {}, {}
for from = entries_from, #ARGV, 6 do
  if not outcomes[ARGV[from + 3]] then return redis.error_reply('ERR unknown outcome ' .. ARGV[from + 3]) end
  ids[#ids + 1] = ARGV[from]
  entries[#entries + 1] = {
    attempt = tonumber(ARGV[from + 1]), token = ARGV[from + 2], outcome = ARGV[from + 3], ms = tonumber(ARGV[from + 4]),
    note = ARGV[from + 5],
  }
end
local raws = raw_many(ids)
for i, e in ipairs(entries) do
  local id = ids[i]
  completed[i] = raws[i] and not owner[id] and plainly_completed(raws[i], e)
  local j = not completed[i] and read(raws[i])
  jobs[i] = j
  if completed[i] then
    owner[id] = i
    owned[#owned + 1] = id
  elseif not j or j.attempt ~= e.attempt or j.token ~= e.token then answers[i] = LOST
  elseif j.state ~= 'r' or owner[id] then answers[i] = j.state == 'x' and CANCELLED or ALREADY
  else
    owner[id] = i
    owned[#owned + 1] = id
  end
end
if #owned == 0 then return answers end
check_indexes()
redis.call('ZREM', LEASES, unpack(owned)) -- a write that a full Redis accepts: what follows then passes
redis.pcall('SREM', base .. 'h:' .. worker, unpack(owned))
for _, id in ipairs(owned) do
  local i = owner[id]
  local e, j = entries[i], jobs[i]
  if completed[i] then
    redis.call('SET', base .. 'j:' .. id, completed[i], 'PX', e.ms)
    count('complete')
  else outcomes[e.outcome](id, j, e) end
  answers[i] = j and j.state == 'x' and CANCELLED or RECORDED
end
save_counts()
return answers
