-- _answered: what a request was told that acts on whoever has an id. Sent again, or late, it is told the same and does nothing:
-- another job may have taken the id meanwhile, or the same one may have begun anew.
local ANSWER_KEPT_MS = 180000 -- longer than a request is sent again: the longest deadline, twice, and what lies between
local function answer_key(id, nonce) return base .. 'r:' .. nonce .. ':' .. id end
local function answered_before(id, nonce) return redis.call('MGET', answer_key(id, nonce))[1] end
-- pcall: what was done is done, also where this cannot be noted (a full Redis, an ACL).
local function remember(id, nonce, word)
  redis.pcall('SET', answer_key(id, nonce), word, 'PX', ANSWER_KEPT_MS)
  return word
end
