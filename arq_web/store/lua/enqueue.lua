-- enqueue: create n jobs, unless they exist. All or nothing: one conflict, and nothing is written.
-- Returns {listening, outcome, id, outcome, id, ...}; outcome 0 exists (the id is the existing job's), 1 created (also when
-- the same request is sent again), and, alone, 2 conflict (then the existing task's name) or 3 not a record of ours.
-- listening is 1 when a worker was seen within its time. Uses _create.
local jobs_from = 1 -- ARGV[1..]: id, nonce, priority, due, expires, max_crashes, keep_s, unique, task, replace, extra, payload

local several = #ARGV > FIELDS
for from = jobs_from, several and #ARGV or 0, FIELDS do
  local outcome, what = obstacle(arguments(from))
  if outcome == CONFLICT or outcome == CORRUPT then return { 0, outcome, what, ARGV[from] } end
end
local reply, created = { redis.call('EXISTS', WORKERS) }, 0
for from = jobs_from, #ARGV, FIELDS do
  local a = arguments(from)
  local outcome, id = obstacle(a)
  if outcome == CONFLICT or outcome == CORRUPT then return { 0, outcome, id, a.id } end
  if not outcome then
    create(a)
    outcome, id, created = CREATED, a.id, created + 1
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = id
end
count('enqueued', created)
return reply
