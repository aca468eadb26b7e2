-- _create: how a job comes to be. Shared by enqueue (on request) and fire (on schedule).
local FIELDS = 12 -- ARGV per job, in the order of `arguments` below
local EXISTS, CREATED, CONFLICT, CORRUPT = 0, 1, 2, 3

-- '0' never, 'd250' in 250 ms, 'a1700000000000' at that time: the caller's clock never counts for a delay.
local function moment(word)
  local kind, ms = string.sub(word, 1, 1), tonumber(string.sub(word, 2))
  if kind == 'd' then return now_ms + ms end
  if kind == 'a' then return ms end
  return 0
end

local function arguments(from)
  return {
    id = ARGV[from], nonce = ARGV[from + 1], priority = ARGV[from + 2], due = moment(ARGV[from + 3]),
    expires = moment(ARGV[from + 4]), max_crashes = ARGV[from + 5], keep_s = ARGV[from + 6], unique = ARGV[from + 7],
    task = ARGV[from + 8], replace = ARGV[from + 9] == '1', extra = ARGV[from + 10], payload = ARGV[from + 11],
  }
end

-- What stands in the way of job `a`: its outcome and the id that answers for it, or nil. Writes nothing.
local function obstacle(a)
  local raw = redis.pcall('GET', base .. 'j:' .. a.id)
  if raw then
    local j = type(raw) == 'string' and read(raw)
    if not j then return CORRUPT, a.id end
    if j.nonce == a.nonce and j.task == a.task then return CREATED, a.id end -- the same request, sent again
    if j.task ~= a.task and not (a.replace and TERMINAL[j.state]) then return CONFLICT, j.task end
    if not (a.replace and TERMINAL[j.state]) then return EXISTS, a.id end
  end
  if a.unique ~= '-' then
    local holder = redis.call('GET', base .. 'u:' .. a.unique)
    local j = holder and read(redis.call('GET', base .. 'j:' .. holder))
    if j and not TERMINAL[j.state] then return EXISTS, holder end
  end
end

local function create(a)
  local aside = #a.payload > INLINE_BYTES
  local spec = table.concat({ now_ms, a.nonce, a.priority, a.expires, a.max_crashes, a.keep_s, aside and '+' or '.',
    a.unique, a.task .. a.extra }, ' ')
  local later = a.due > now_ms
  local head = later and table.concat({ 's 0 0 0 0 -', now_ms, 0, a.due, '- -' }, ' ') or 'q 0 0 0 0'
  redis.call('SET', base .. 'j:' .. a.id, head .. '\n' .. spec .. '\n' .. (aside and '' or a.payload))
  if aside then redis.call('SET', base .. 'p:' .. a.id, a.payload)
  elseif a.replace then redis.call('DEL', base .. 'p:' .. a.id) end
  if a.replace then redis.call('ZREM', DEAD, a.id) end
  if a.unique ~= '-' then redis.call('SET', base .. 'u:' .. a.unique, a.id) end
  if later then
    redis.call('ZADD', DUE, a.due, a.id)
    if redis.call('ZRANGE', DUE, 0, 0)[1] == a.id then wake() end
  else
    make_ready(a.id, { priority = tonumber(a.priority) }, now_us)
  end
end
