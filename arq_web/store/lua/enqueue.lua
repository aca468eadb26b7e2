-- enqueue: create n jobs, unless they exist. All or nothing: one that is refused, and nothing is written.
-- Returns {listening, outcome, id, outcome, id, ...}; outcome 0 exists (the id is the existing job's), 1 created (also when
-- the same request is sent again), 4 exists, by an earlier request under the same idempotency key. Or, alone and followed by
-- the job's own id, why it is refused: 2 conflict (then the existing task's name), 3 not a record of ours, 5 the key stands
-- for another fingerprint or 6 for a job whose record is gone (then that job's id), 7 full (then how many wait).
-- listening is 1 when a worker was seen within its time. Uses _places, _create.
local max_queued = tonumber(ARGV[1]) -- of jobs that wait for a worker; 0: any number
local idempotency = ARGV[2] -- '-', or '<key> <fingerprint> <ms>', and then there is one job
local jobs_from = 3 -- ARGV[3..]: id, nonce, priority, due, expires, max_crashes, keep_s, unique, task, replace, extra, payload

local REPLAYED, REUSED, GONE, FULL = 4, 5, 6, 7
local REFUSED = { [CONFLICT] = true, [CORRUPT] = true, [REUSED] = true, [GONE] = true }
local key, fingerprint, key_ms = string.match(idempotency, '^(%S+) (%S+) (%d+)$')

-- By this a request that is sent again is told from another one under its key.
local function mark_of(a) return a.nonce == '-' and a.id or a.nonce end

-- What an earlier request under the same key came to: its outcome and the id that answers for it, or nil.
local function answered(a)
  local noted = redis.call('MGET', base .. 'i:' .. key)[1]
  local print, id, mark = string.match(noted or '', '^(%S+) (%S+) ?(%S*)$')
  if not id then return nil end
  if print ~= fingerprint then return REUSED, id end
  local j = read_many({ id })[1]
  if not j then return GONE, id end
  if mark_of(a) ~= (mark == '' and id or mark) then return REPLAYED, id end
  return id == a.id and j.nonce == a.nonce and CREATED or EXISTS, id
end

-- Noted with the id that answered, whether or not that job is new: asked again, the answer is the same.
local function note(a, id)
  local mark = mark_of(a)
  redis.call('SET', base .. 'i:' .. key, fingerprint .. ' ' .. id .. (mark == id and '' or ' ' .. mark), 'PX', key_ms)
end

-- Those whose time has come wait too, though no claim has promoted them yet.
local function waiting() return redis.call('ZCARD', READY) + redis.call('ZCOUNT', DUE, '-inf', now_ms) end

check_indexes()
local seen = redis.pcall('ZCOUNT', WORKERS, '(' .. now_ms, '+inf') -- each by its own time: the key lives as long as the last
local reply, new, queued, first = { type(seen) == 'number' and seen > 0 and 1 or 0 }, {}, 0, nil
for from = jobs_from, #ARGV, FIELDS do
  local a = arguments(from)
  local outcome, id
  if key then
    outcome, id = answered(a)
    first = not outcome and a
  end
  if not outcome then outcome, id = obstacle(a) end
  if REFUSED[outcome] then return { 0, outcome, id, a.id } end
  if not outcome then
    plan(a)
    new[#new + 1] = a
    if a.due <= now_ms then queued = queued + 1 end
  end
  reply[#reply + 1] = outcome or CREATED
  reply[#reply + 1] = id or a.id
end
if max_queued > 0 and queued > 0 and waiting() + queued > max_queued then return { 0, FULL, waiting(), new[1].id } end
if first then note(first, reply[3]) end
for _, a in ipairs(new) do
  create(a)
  count('enqueued')
end
save_counts()
return reply
