-- cancel: end a job that waits; ask for the end of one that runs.
-- Returns 'cancelled', 'requested', 'finished' (it had ended otherwise) or 'absent'. Safe to send twice.
-- Uses _places, _kept, _end, _answered.
local id = ARGV[1]
local nonce = ARGV[2] -- of this request: it acts once
local words_from = 3 -- ARGV[3..]: 'by_worker': one that waits goes marked to a worker, now, and that ends it; else it ends here

local function cancel()
  local j = read_many({ id })[1]
  if not j then return 'absent' end
  if j.state == 'x' then return 'cancelled' end
  if TERMINAL[j.state] then return 'finished' end
  local by_worker = ARGV[words_from] == 'by_worker'
  if flagged(j, 'c') and (by_worker or j.state == 'r') then return 'requested' end -- another has asked for it
  check_indexes()
  redis.call('ZREM', READY, id) -- a write that a full Redis accepts: a cancel makes room
  redis.call('ZREM', DUE, id)
  if j.state == 'r' or by_worker then
    set_flag(j, 'c')
    if j.state ~= 'r' then
      j.state, j.since, j.due = 'q', now_ms, now_ms
      make_ready(id, j, (j.created - 1735689600000) * 1000)
      wake()
    end
    write(id, j)
    return 'requested'
  end
  finish(id, j, 'x', j.keep_ms, '')
  save_counts()
  return 'cancelled'
end

return answered_before(id, nonce) or remember(id, nonce, cancel())
