-- _create: how a job comes to be. Shared by enqueue (on request) and fire (on schedule).
local INLINE_BYTES = 4096 -- a larger payload lives in a key of its own: transitions rewrite the record
local FIELDS = 12 -- ARGV per job, in the order of `arguments` below
local EXISTS, CREATED, CONFLICT, CORRUPT = 0, 1, 2, 3

-- '0' never, 'd250' in 250 ms, 'a1700000000000' at that time: the caller's clock never counts for a delay.
local function moment(word)
  local kind, ms = string.sub(word, 1, 1), tonumber(string.sub(word, 2))
  if kind == 'd' then return math.min(now_ms + ms, LATEST_MS) end
  if kind == 'a' then return math.min(ms, LATEST_MS) end
  return 0
end

local function arguments(from)
  return {
    id = ARGV[from], nonce = ARGV[from + 1], priority = tonumber(ARGV[from + 2]), due = moment(ARGV[from + 3]),
    expires = moment(ARGV[from + 4]), max_crashes = tonumber(ARGV[from + 5]), keep_s = tonumber(ARGV[from + 6]),
    unique = ARGV[from + 7], task = ARGV[from + 8], replace = ARGV[from + 9], extra = ARGV[from + 10],
    payload = ARGV[from + 11],
  }
end

-- '1': any finished job of its id gives way; '2': one that was to be kept for less than a minute, and that time has passed.
local function gives_way(j, a)
  if not TERMINAL[j.state] then return false end
  return a.replace == '1' or a.replace == '2' and j.due ~= '0' and tonumber(j.due) <= now_ms
end

-- What stands in the way of job `a`: its outcome and the id that answers for it, or nil. Writes nothing.
local planned, planned_unique = {}, {} -- what the same request will create
local function obstacle(a)
  local twin = planned[a.id]
  if twin and twin.task ~= a.task then return CONFLICT, twin.task end
  if twin then return EXISTS, a.id end
  local raw = redis.pcall('GET', base .. 'j:' .. a.id)
  if raw then
    local j = type(raw) == 'string' and read(raw)
    if not j then return CORRUPT, a.id end
    if j.nonce == a.nonce and j.task == a.task then return CREATED, a.id end -- the same request, sent again
    local replaced = gives_way(j, a)
    if j.task ~= a.task and not replaced then return CONFLICT, j.task end
    if not replaced then return EXISTS, a.id end
  end
  local holder = planned_unique[a.unique] or holder_of(a.unique)
  if holder then return EXISTS, holder end
end
local function plan(a)
  planned[a.id] = a
  if a.unique ~= '-' then planned_unique[a.unique] = a.id end
end

local texts, emptied, listed, ready, due = {}, {}, {}, {}, {} -- of all that `create` was called for
local function create(a)
  local later, at = a.due > now_ms, #texts
  a.aside, a.created = #a.payload > INLINE_BYTES, now_ms
  local head = later and table.concat({ 's 0 0 0 0 -', now_ms, 0, a.due, '- -' }, ' ') or 'q'
  texts[at + 1], texts[at + 2] = base .. 'j:' .. a.id, head .. '\n' .. spec_of(a) .. (a.aside and '' or a.payload)
  if a.aside then texts[at + 3], texts[at + 4] = base .. 'p:' .. a.id, a.payload
  elseif a.replace ~= '0' then emptied[#emptied + 1] = base .. 'p:' .. a.id end
  if a.unique ~= '-' then texts[#texts + 1], texts[#texts + 2] = base .. 'u:' .. a.unique, a.id end
  if a.nonce ~= '-' then listed[#listed + 1] = a.id end -- an id of our own making was nobody's before
  local places = later and due or ready
  places[#places + 1], places[#places + 2] = later and a.due or place_of(a), a.id
end

-- Called once: few commands for many jobs. A full Redis refuses the first of them, and then nothing is written.
local function save_created()
  for first = 1, #texts, 2000 do redis.call('MSET', unpack(texts, first, math.min(first + 1999, #texts))) end
  if #emptied > 0 then redis.call('DEL', unpack(emptied)) end
  if #listed > 0 then redis.pcall('ZREM', DEAD, unpack(listed)) end -- a dead job that is gone may still be listed
  if #ready > 0 then
    redis.call('ZADD', READY, unpack(ready))
    wake()
  end
  if #due > 0 then
    redis.call('ZADD', DUE, unpack(due))
    local earliest = redis.call('ZRANGE', DUE, 0, 0)[1]
    for i = 2, #due, 2 do if due[i] == earliest then wake() end end
  end
end
