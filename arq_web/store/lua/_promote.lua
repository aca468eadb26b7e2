-- _promote: how a due job becomes ready, unless its time to start has passed. Needs _end.
local function expired(id, j)
  if j.expires == 0 or j.expires > now_ms then return false end
  finish(id, j, 'e', j.keep_ms, j.note)
  return true
end

local function promote()
  local ids = redis.call('ZRANGEBYSCORE', DUE, '-inf', now_ms, 'LIMIT', 0, 500)
  if #ids == 0 then return end
  redis.call('ZREM', DUE, unpack(ids))
  local jobs = read_many(ids)
  for i, id in ipairs(ids) do
    local j = jobs[i]
    if not j then reject(id, 'due without a readable record')
    elseif (j.state == 's' or j.state == 't') and not expired(id, j) then
      j.state, j.since = 'q', now_ms -- its due time stays: from then on it has waited for a worker
      write(id, j)
      make_ready(id, j)
    end
  end
end
