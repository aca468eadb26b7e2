-- enqueue: create n jobs, unless they exist. All or nothing: one that is refused, and nothing is written.
-- Returns {listening, outcome, id, outcome, id, ...}; outcome 0 exists (the id is the existing job's), 1 created (also when
-- the same request is sent again), 4 exists, by an earlier request under the same idempotency key. Or, alone and followed by
-- the job's own id, why it is refused: 2 conflict (then the existing task's name), 3 not a record of ours, 5 the key stands
-- for another fingerprint or 6 for a job whose record is gone (then that job's id), 7 full (then how many wait).
-- listening is 1 when a worker was seen within its time. Tries _lone first. Uses _places, _create.
local max_queued = tonumber(ARGV[1]) -- of jobs that wait for a worker; 0: any number
local idempotency = ARGV[2] -- '-', or '<key> <fingerprint> <ms>', and then there is one job
local jobs_from = 3 -- ARGV[3..]: id, nonce, priority, due, expires, max_crashes, keep_s, unique, task, replace, extra, payload

local REPLAYED, REUSED, GONE, FULL = 4, 5, 6, 7

check_indexes()
local seen = redis.pcall('ZCOUNT', WORKERS, '(' .. now_ms, '+inf') -- each by its own time: the key lives as long as the last
local listening = type(seen) == 'number' and seen > 0 and 1 or 0
local key, fingerprint, key_ms, mark
if idempotency ~= '-' then
  key, fingerprint, key_ms = string.match(idempotency, '^(%S+) (%S+) (%d+)$')
  local a = arguments(jobs_from)
  mark = a.nonce == '-' and a.id or a.nonce -- of a request: it is sent again, or another one comes under the same key
  local print, id, marked = string.match(redis.call('MGET', base .. 'i:' .. key)[1] or '', '^(%S+) (%S+) ?(%S*)$')
  local j = id and read_many({ id })[1]
  if id and print ~= fingerprint then return { 0, REUSED, id, a.id } end
  if id and not j then return { 0, GONE, id, a.id } end
  if id and mark ~= (marked == '' and id or marked) then return { listening, REPLAYED, id } end
  if id then return { listening, id == a.id and j.nonce == a.nonce and CREATED or EXISTS, id } end
end

local reply, new, queued = { listening }, {}, 0
for from = jobs_from, #ARGV, FIELDS do
  local a = arguments(from)
  local outcome, id = obstacle(a)
  if outcome == CONFLICT or outcome == CORRUPT then return { 0, outcome, id, a.id } end
  if not outcome then
    plan(a)
    new[#new + 1] = a
    if a.due <= now_ms then queued = queued + 1 end
  end
  reply[#reply + 1] = outcome or CREATED
  reply[#reply + 1] = id or a.id
end
if max_queued > 0 and queued > 0 then -- those whose time has come wait too, though no claim has promoted them yet
  local waiting = redis.call('ZCARD', READY) + redis.call('ZCOUNT', DUE, '-inf', now_ms)
  if waiting + queued > max_queued then return { 0, FULL, waiting, new[1].id } end
end
if key then -- also where an existing job answered: asked again, the answer is the same
  local id = reply[3]
  redis.call('SET', base .. 'i:' .. key, fingerprint .. ' ' .. id .. (id == mark and '' or ' ' .. mark), 'PX', key_ms)
end
for _, a in ipairs(new) do
  create(a)
  count('enqueued')
end
save_created()
save_counts()
return reply
