"""Time passes for one queue: not by waiting, but by moving every time that it stores into the past.

Redis' own clock cannot be set. For the scripts only differences count: a lease that ends in 8 s has passed when all
times of the queue, the lease's too, lie 8 s earlier. So "8 s pass" is one script that takes 8 s off everything:

- in a record: created, since, started, due and expires;
- the scores of ``due``, ``leases``, ``workers`` and ``dead`` (ms), and of ``ready`` (in µs: the order stays);
- both times in ``reclaimed``, and the next and the last tick of a schedule;
- the time to live of every key that has one: what has none left goes, as Redis would have it.

It does not move: what is only told and never compared (the times inside a note or in the list of rejects), and the
counters, which are named by the minute of the real clock and keep their own three hours. What a test holds in its hand
(the due time that it is about to send, a tick) it moves itself.
"""

from __future__ import annotations

from arq_web.store.store import Store

_PASS = b"""
local base, ms = KEYS[1], tonumber(ARGV[1])

-- Zero stands for "not yet" or "never", and stays.
local function earlier(time)
  if tonumber(time) == 0 then return time end
  return string.format('%.0f', tonumber(time) - ms)
end

local function record_earlier(raw)
  local first, created, rest, body = string.match(raw, '^([^\\n]*)\\n(%d+)([^\\n]*)(\\n.*)$')
  if not created then return raw end
  local head, since, started, due, tail = string.match(first, '^(.-) (%d+) (%d+) (%d+) (%S+ %S+)$')
  if head then first = table.concat({ head, earlier(since), earlier(started), earlier(due), tail }, ' ') end
  local options, extra = string.match(rest, '^(.-)( {.*)$')
  options = string.gsub(options or rest, ' e(%d+)', function(time) return ' e' .. earlier(time) end)
  return first .. '\\n' .. earlier(created) .. options .. (extra or '') .. body
end

local STRINGS = {
  ['^j:'] = record_earlier,
  ['^reclaimed$'] = function(raw)
    return (string.gsub(raw, '%d+', earlier))
  end,
  ['^s:'] = function(raw)
    local tick, fingerprint, fired, skipper = string.match(raw, '^(%d+) (%S+) (%d+)(.*)$')
    return tick and table.concat({ earlier(tick), fingerprint, earlier(fired) }, ' ') .. skipper or raw
  end,
}
local SCORES = { due = ms, leases = ms, workers = ms, dead = ms, ready = ms * 1000 }

for _, key in ipairs(redis.call('KEYS', string.gsub(base, '[%[%]?*^\\\\]', '\\\\%0') .. '*')) do
  local name = string.sub(key, #base + 1)
  local ttl_ms = redis.call('PTTL', key)
  if string.sub(name, 1, 2) == 'm:' then -- a counter
  elseif ttl_ms >= 0 and ttl_ms <= ms then redis.call('DEL', key)
  else
    for pattern, move in pairs(STRINGS) do
      if string.find(name, pattern) then redis.call('SET', key, move(redis.call('GET', key)), 'KEEPTTL') end
    end
    if SCORES[name] then
      local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
      for i = 1, #members, 2 do
        redis.call('ZADD', key, string.format('%.0f', tonumber(members[i + 1]) - SCORES[name]), members[i])
      end
    end
    -- Since Redis 7 the end itself can be asked for; what is left of it is another number by the time it is written.
    local ends = redis.pcall('PEXPIRETIME', key)
    if ttl_ms >= 0 and type(ends) == 'number' then redis.call('PEXPIREAT', key, string.format('%.0f', ends - ms))
    elseif ttl_ms >= 0 then redis.call('PEXPIRE', key, ttl_ms - ms) end
  end
end
"""


async def let_time_pass(store: Store, ms: int) -> None:
    """Take ``ms`` off every time that the queue stores, in one step.

    A negative ``ms`` takes time back that has really passed: so the clock of a queue may be made to stand still.
    """
    await store.connections.get(store.base).execute("EVAL", _PASS, 1, store.base, ms)
