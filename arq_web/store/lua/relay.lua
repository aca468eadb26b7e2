-- relay: create the jobs of rows of an outbox, each row once: whoever relays it, however often, however late. What a row was
-- answered is noted under its receipt. Each is answered on its own; a request that comes too late writes nothing.
-- Returns {outcome, id, outcome, id, ...}; outcome 0 exists (the id is the existing job's), 1 created, 2 conflict (then the
-- existing task's name), 3 not a record of ours. Alone: 4 late. A receipt answers as at the first time. Uses _places, _create.
local valid_until_ms = tonumber(ARGV[1]) -- until then nobody else relays these rows
local receipt_ms = ARGV[2] -- how long a receipt stays, if nobody says that its row is gone
local rows_from = 3 -- ARGV[3..]: receipt, id, nonce, priority, due, expires, max_crashes, keep_s, unique, task, replace, extra, payload

local LATE = 4

if now_ms > valid_until_ms then return { LATE } end
check_indexes()
local reply, new, notes = {}, {}, {}
for from = rows_from, #ARGV, 1 + FIELDS do
  local receipt, a = base .. 'o:' .. ARGV[from], arguments(from + 1)
  local noted = redis.call('MGET', receipt)[1]
  local outcome, id = string.match(noted or '', '^([01]) (%S+)$')
  if not outcome then
    outcome, id = obstacle(a)
    if not outcome then
      plan(a)
      new[#new + 1] = a
    end
    outcome, id = outcome or CREATED, id or a.id
    if outcome == EXISTS or outcome == CREATED then notes[receipt] = outcome .. ' ' .. id end
  end
  reply[#reply + 1] = tonumber(outcome)
  reply[#reply + 1] = id
end
for _, a in ipairs(new) do
  create(a)
  count('enqueued')
end
save_created()
for receipt, note in pairs(notes) do redis.call('SET', receipt, note, 'PX', receipt_ms) end
save_counts()
return reply
