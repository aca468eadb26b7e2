-- claim: promote what is due, then take up to `limit` ready jobs under a lease.
-- The same token again returns the same jobs: a lost reply loses nothing and costs nothing. A token is "<number>.<random>", the
-- number growing with each claim of the worker: a copy of an older claim than the last one takes nothing.
-- Returns {now_ms, next due_ms or 0, number of leases, ready jobs left, standby, id, record, payload kept aside or '', ...};
-- standby is 1 when this (embedded) worker took nothing because an external one is alive. Uses _places, _kept, _plain, _end, _promote, _take.
local worker = ARGV[1]
local kind = ARGV[2] -- 'x' external, 'e' embedded, 's' embedded that stands back for external ones
local token = ARGV[3]
local limit = tonumber(ARGV[4])
local lease_ms = tonumber(ARGV[5])
local alive_ms = tonumber(ARGV[6])
local keep_dead_ms = tonumber(ARGV[7])
local slots = ARGV[8] -- that the worker has, free or not

local MOST_BYTES = 4194304 -- of records and payloads per reply: a slow line must bring it before the worker asks again
check_indexes()
show_up(kind, slots, worker, alive_ms)
local last_claim, held = base .. 'k:' .. worker, base .. 'h:' .. worker
local out, taken, leases, bytes = { now_ms, 0, 0, 0, 0 }, {}, {}, 0
local leased_until = string.format('%.0f', now_ms + lease_ms)
local function hand_out(id, raw, payload)
  local n = #taken
  taken[n + 1] = id
  leases[2 * n + 1], leases[2 * n + 2] = leased_until, id
  out[3 * n + 6], out[3 * n + 7], out[3 * n + 8] = id, raw, payload
  bytes = bytes + #raw + #payload
end

local seen = 0 -- at most 1000 per claim, though all may have expired: Redis must serve others too
local function take(n)
  local popped, ids = redis.call('ZPOPMIN', READY, n), {}
  seen = #popped > 0 and seen + #popped / 2 or 1000
  for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
  local unwritten = {} -- key, record, ...
  for i, raw in ipairs(raw_many(ids)) do
    local id = ids[i]
    if bytes >= MOST_BYTES then redis.call('ZADD', READY, popped[2 * i], id) -- back to its place
    else
      local record, payload, is_unwritten = take_one(id, raw, token, worker, keep_dead_ms)
      if is_unwritten then unwritten[#unwritten + 1], unwritten[#unwritten + 2] = base .. 'j:' .. id, record end
      if record then hand_out(id, record, payload) end
    end
  end
  if #unwritten > 0 then redis.call('MSET', unpack(unwritten)) end
end
local function take_again(ids)
  local jobs = read_many(ids)
  for i, id in ipairs(ids) do
    local j = jobs[i]
    if j and j.state == 'r' and j.token == token then hand_out(id, j.raw, payload_of(id, j) or '') end
  end
end
local function number_of(claim) return tonumber(string.match(claim or '', '^(%d+)%.')) end

local ids = {}
for word in string.gmatch(redis.call('MGET', last_claim)[1] or '', '%S+') do ids[#ids + 1] = word end
local last = table.remove(ids, 1)
local number, newest = number_of(token), number_of(last)
local is_late = number and newest and number < newest -- its answer went to a connection that nobody reads any more
if kind == 's' and is_anybody_external() then out[5], limit = 1, 0 end
if last == token then take_again(ids)
elseif not is_late then
  promote()
  limit = math.min(limit, 1000)
  while #taken < limit and seen < 1000 and bytes < MOST_BYTES do take(limit - #taken) end
end
if #taken > 0 then
  redis.call('ZADD', LEASES, unpack(leases))
  redis.pcall('SADD', held, unpack(taken))
  redis.call('PEXPIRE', held, lease_ms * 8)
end
if #taken > 0 or number and not is_late then
  redis.call('SET', last_claim, token .. ' ' .. table.concat(taken, ' '), 'PX', lease_ms + CLAIM_KEPT_MS)
end
out[2] = tonumber(redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2] or 0)
out[3] = redis.call('ZCARD', LEASES)
out[4] = redis.call('ZCARD', READY)
if out[4] > 0 then wake() end
save_counts()
return out
