-- renew: keep the leases of the attempts that this worker holds, and hand back what it holds without knowing.
-- Returns one number per entry: 1 renewed, 2 renewed and its cancellation was asked for, 0 lost. Uses _places, _kept, _end.
local worker = ARGV[1]
local kind = ARGV[2]
local lease_ms = tonumber(ARGV[3])
local alive_ms = tonumber(ARGV[4])
local last_token = ARGV[5] -- of the newest claim whose reply the worker has read
local asked_ms = tonumber(ARGV[6]) -- server time when it said all this, as it knows it; 0 when it does not
local slots = ARGV[7] -- that the worker has, free or not
local entries_from = 8 -- ARGV[8..]: id, attempt (0: known, but let its lease lapse), token

check_indexes()
show_up(kind, slots, worker, alive_ms)
local ids, answers, leases, listed = {}, {}, {}, {}
for from = entries_from, #ARGV, 3 do ids[#ids + 1] = ARGV[from] end
local jobs = read_many(ids)
for i, id in ipairs(ids) do
  local j, from = jobs[i], entries_from + (i - 1) * 3
  local attempt = tonumber(ARGV[from + 1])
  if attempt == 0 then
    answers[i] = 1
    listed[id] = true -- handed back it would run again at once, at no cost, for ever: it must cost a crash
  elseif j and j.state == 'r' and j.attempt == attempt and j.token == ARGV[from + 2] then
    answers[i] = flagged(j, 'c') and 2 or 1
    leases[#leases + 1] = now_ms + lease_ms
    leases[#leases + 1] = id
    listed[id] = true
  else
    answers[i] = 0
  end
end
for first = 1, #leases, 1000 do redis.call('ZADD', LEASES, unpack(leases, first, math.min(first + 999, #leases))) end

-- Orphans of our own: only when no claim newer than the worker's list has run meanwhile. Or when the answer of that claim is
-- so late that the worker, which starts nothing of an answer that took half a lease, cannot use it any more; and before the
-- lease passes, so that it costs nothing. A list that was on its way for long (Redis stood still) says nothing of the kind.
local held, last_claim = base .. 'h:' .. worker, base .. 'k:' .. worker
local last = redis.call('MGET', last_claim)[1]
local is_fresh = math.abs(now_ms - asked_ms) <= lease_ms / 8
local is_unread = not last or redis.call('PTTL', last_claim) <= CLAIM_KEPT_MS + lease_ms / 4
if last and string.match(last, '^%S+') == last_token or is_unread and is_fresh then
  local orphans = {}
  for _, id in ipairs(redis.pcall('SMEMBERS', held)) do
    if not listed[id] then orphans[#orphans + 1] = id end
  end
  local found = read_many(orphans)
  for i, id in ipairs(orphans) do
    local j = found[i]
    redis.call('SREM', held, id) -- it is a set: its members came from it
    if j and j.state == 'r' and j.worker == worker then
      redis.call('ZREM', LEASES, id)
      j.token = '-' -- whoever still runs it has lost it
      release(id, j)
    end
  end
end
redis.call('PEXPIRE', held, lease_ms * 8)
save_counts()
return answers
