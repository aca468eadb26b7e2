-- _take: what becomes of a ready job when a worker takes it. Needs _plain, _end, _promote.

-- Its record under the new lease, its payload if that is kept aside (else ''), and whether the caller is to write the record;
-- nil when there is nothing to run.
local function take_one(id, raw, token, worker, keep_dead_ms)
  local plain = raw and plainly_claimed(raw, token, worker)
  if plain then return plain, '', true end
  local j = read(raw)
  local payload = j and payload_of(id, j)
  if not j then reject(id, 'ready without a readable record')
  elseif j.state == 'q' and not payload then
    lose(id, j, keep_dead_ms, 'lost_payload', 'LostPayload', 'its arguments are gone from Redis')
  elseif j.state == 'q' and not expired(id, j) then
    j.state, j.attempt, j.token, j.since, j.started, j.worker = 'r', j.attempt + 1, token, now_ms, now_ms, worker
    if is_suspect(j) then set_flag(j, 'i') end
    return write(id, j), payload, false
  end
end
