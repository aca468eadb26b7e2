-- settle: end n attempts, each with an outcome, each only if it is still the owner (attempt and token).
-- Every entry is checked before any is written. Returns one number per entry: 1 recorded, 2 recorded already by this very
-- attempt (the request was sent twice), 3 recorded as cancelled (that was asked for meanwhile), 0 lost: another attempt
-- owns the job, and nothing was changed.
local worker = ARGV[1]
local keep_dead_ms = tonumber(ARGV[2])
local entries_from = 3 -- ARGV[3..]: id, attempt, token, outcome, ms (how long to keep, or to wait), note

local LOST, RECORDED, ALREADY, CANCELLED = 0, 1, 2, 3
local function retry_later(id, j, state, entry)
  if flagged(j, 'c') then finish(id, j, 'x', j.keep_ms, '') return CANCELLED end
  j.note, j.flags = entry.note, flagged(j, 'w') and 'w' or '-'
  make_due(id, j, state, now_ms + entry.ms)
  return RECORDED
end
local outcomes = {
  complete = function(id, j, e)
    if e.ms == 0 then set_flag(j, 'n') end
    finish(id, j, 'c', e.ms, e.ms == 0 and '' or e.note)
  end,
  retry = function(id, j, e) j.failures = j.failures + 1 return retry_later(id, j, 't', e) end,
  snooze = function(id, j, e) return retry_later(id, j, 's', e) end,
  park = function(id, j, e) return retry_later(id, j, 's', e) end,
  bury = function(id, j, e) j.failures = j.failures + 1 finish(id, j, 'd', keep_dead_ms, e.note) end,
  cancel = function(id, j, e) finish(id, j, 'x', j.keep_ms, e.note) return CANCELLED end,
  crash = function(id, j) if crash(id, j, keep_dead_ms) == 'x' then return CANCELLED end end,
  release = function(id, j)
    if flagged(j, 'c') then finish(id, j, 'x', j.keep_ms, '') return CANCELLED end
    back_to_head(id, j)
  end,
}

local ids, entries, answers, owned = {}, {}, {}, {}
for from = entries_from, #ARGV, 6 do
  if not outcomes[ARGV[from + 3]] then return redis.error_reply('ERR unknown outcome ' .. ARGV[from + 3]) end
  ids[#ids + 1] = ARGV[from]
  entries[#entries + 1] = {
    attempt = tonumber(ARGV[from + 1]), token = ARGV[from + 2], outcome = ARGV[from + 3], ms = tonumber(ARGV[from + 4]),
    note = ARGV[from + 5],
  }
end
local jobs = read_many(ids)
for i, e in ipairs(entries) do
  local j = jobs[i]
  if not j or j.attempt ~= e.attempt or j.token ~= e.token then answers[i] = LOST
  elseif j.state ~= 'r' then answers[i] = ALREADY
  else owned[#owned + 1] = ids[i] end
end
if #owned == 0 then return answers end
redis.call('ZREM', LEASES, unpack(owned)) -- a write that a full Redis accepts: what follows then passes
redis.call('SREM', base .. 'h:' .. worker, unpack(owned))
local counts = {}
for i, e in ipairs(entries) do
  if not answers[i] then
    answers[i] = outcomes[e.outcome](ids[i], jobs[i], e) or RECORDED
    local what = answers[i] == CANCELLED and 'cancel' or e.outcome
    counts[what] = (counts[what] or 0) + 1
  end
end
for what, n in pairs(counts) do count(what, n) end
return answers
