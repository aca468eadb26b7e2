-- dismiss: take a job out of sight. One that waits is cancelled, one that runs is asked to end; what has ended stays for a
-- minute, for replies that were lost, without its result or error.
-- Returns 'dismissed', 'requested' (it runs yet) or 'absent'. Safe to send twice. Uses _places, _kept, _end, _answered.
local id = ARGV[1]
local nonce = ARGV[2] -- of this request: it acts once

local function dismiss()
  local j = read_many({ id })[1]
  if not j then return 'absent' end
  if flagged(j, 'd') then return TERMINAL[j.state] and 'dismissed' or 'requested' end
  check_indexes()
  redis.call('ZREM', READY, id) -- a write that a full Redis accepts: a dismissal makes room
  redis.call('ZREM', DUE, id)
  set_flag(j, 'd')
  set_flag(j, 'n')
  if j.state == 'r' then
    set_flag(j, 'c')
    write(id, j)
    return 'requested'
  end
  if not TERMINAL[j.state] then
    finish(id, j, 'x', 0, '')
    save_counts()
    return 'dismissed'
  end
  redis.pcall('ZREM', DEAD, id)
  j.note = ''
  if tonumber(j.due) == 0 or tonumber(j.due) > now_ms then j.due = now_ms end -- its id is free for another job, as if it had gone
  write(id, j, MIN_KEEP_MS)
  if j.aside then redis.call('PEXPIRE', base .. 'p:' .. id, MIN_KEEP_MS) end
  return 'dismissed'
end

return answered_before(id, nonce) or remember(id, nonce, dismiss())
