-- _answered: what a request was told that acts on whoever has an id. Sent again after a lost reply it is told the same, and
-- another job that has taken the id meanwhile, or the same one begun anew, is left alone.
local ANSWER_KEPT_MS = 60000 -- longer than any request is sent again
local function answered_before(nonce) return redis.call('MGET', base .. 'r:' .. nonce)[1] end
local function remember(nonce, word)
  redis.call('SET', base .. 'r:' .. nonce, word, 'PX', ANSWER_KEPT_MS)
  return word
end
