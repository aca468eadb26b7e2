-- _kept: for how long what has ended is there, and the list of the dead.
local MIN_KEEP_MS = 60000 -- no record goes within a minute of its end: a lost reply must find it
local LISTED_MS = 31622400000 -- a job that is kept for ever is in the list for 366 days
local LOOKED_AT = 10 -- of that list, with each new one

-- The list lasts as long as the longest kept of them. Each new one clears some away whose records are gone, wherever they
-- are: by their age alone nobody can tell, and behind one that is kept for long there may be many that were not.
local function list_dead(id, keep_ms)
  if type(redis.pcall('ZADD', DEAD, now_ms, id)) ~= 'number' then return end
  redis.call('PEXPIRE', DEAD, math.min(math.max(keep_ms, redis.call('PTTL', DEAD)), LISTED_MS))
  redis.call('ZREMRANGEBYSCORE', DEAD, '-inf', now_ms - LISTED_MS)
  local before_ms = now_ms - MIN_KEEP_MS
  local n = redis.call('ZCOUNT', DEAD, '-inf', before_ms)
  local from = n > LOOKED_AT and now_us % (n - LOOKED_AT + 1) or 0
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', DEAD, '-inf', before_ms, 'LIMIT', from, LOOKED_AT)) do
    if redis.call('EXISTS', base .. 'j:' .. old) == 0 then redis.call('ZREM', DEAD, old) end
  end
end
