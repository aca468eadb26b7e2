-- _lone: what nearly every enqueue is: one job under an id of our own making, due now, with nothing but defaults, and perhaps
-- with what only its worker reads. It stands before all else: a script makes its functions anew at each call, and that takes
-- Redis longer than these few commands.
-- Writes what the long way writes (tests/store/test_lone.py); whatever it does not know goes that way.
if #ARGV == 14 and #ARGV[14] <= 4096 and table.concat(ARGV, ' ', 1, 2) == '0 -'
  and table.concat(ARGV, ' ', 4, 10) == '- 0 0 0 3 3600 -' and ARGV[12] == '0' then
  local base, id, time = KEYS[1], ARGV[3], redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  for _, index in ipairs({ 'ready', 'due', 'leases' }) do redis.call('ZCARD', base .. index) end -- as check_indexes
  local waiting = redis.pcall('LLEN', base .. 'wake')
  local seen = redis.pcall('ZCOUNT', base .. 'workers', '(' .. now_ms, '+inf')
  local record = 'q\n' .. now_ms .. ' ' .. ARGV[11] .. ARGV[13] .. '\n' .. ARGV[14]
  -- pcall: a full Redis refuses it, also for a job that is there already; the long way asks for that first.
  local new = type(waiting) == 'number' and redis.pcall('SET', base .. 'j:' .. id, record, 'NX')
  if new and not new.err then
    local place = (time[1] - 1735689600) * 1000000 + time[2] + 1
    redis.call('ZADD', base .. 'ready', string.format('%.0f', place), id)
    if waiting == 0 and redis.pcall('RPUSH', base .. 'wake', '1') == 1 then
      redis.pcall('PEXPIRE', base .. 'wake', 60000)
    end
    local minute = base .. 'm:' .. math.floor(now_ms / 60000)
    if redis.pcall('HINCRBY', minute, 'enqueued', 1) == 1 then redis.call('PEXPIRE', minute, 10800000) end
    return { type(seen) == 'number' and seen > 0 and 1 or 0, 1, id }
  end
end
