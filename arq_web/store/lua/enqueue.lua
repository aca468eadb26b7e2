-- enqueue: create n jobs, unless they exist. All or nothing: one conflict, and nothing is written.
-- Returns {listening, outcome, id, outcome, id, ...}; outcome 0 exists (the id is the existing job's), 1 created (also when
-- the same request is sent again), and, alone and followed by the job's own id, 2 conflict (then the existing task's name) or
-- 3 not a record of ours. listening is 1 when a worker was seen within its time. Tries _lone first. Uses _places, _create.
local jobs_from = 1 -- ARGV[1..]: id, nonce, priority, due, expires, max_crashes, keep_s, unique, task, replace, extra, payload

check_indexes()
local seen = redis.pcall('ZCOUNT', WORKERS, '(' .. now_ms, '+inf') -- each by its own time: the key lives as long as the last
local reply, new = { type(seen) == 'number' and seen > 0 and 1 or 0 }, {}
for from = jobs_from, #ARGV, FIELDS do
  local a = arguments(from)
  local outcome, id = obstacle(a)
  if outcome == CONFLICT or outcome == CORRUPT then return { 0, outcome, id, a.id } end
  if not outcome then
    plan(a)
    new[#new + 1] = a
  end
  reply[#reply + 1] = outcome or CREATED
  reply[#reply + 1] = id or a.id
end
for _, a in ipairs(new) do
  create(a)
  count('enqueued')
end
save_created()
save_counts()
return reply
