-- _plain: the two transitions that nearly every job makes, done on its bytes: claimed for the first time, and completed.
-- To read a record into a table and write it anew takes three times as long. What is not plain goes that way, and both ways
-- write the same bytes, of whatever record (tests/store/test_plain.py). Needs _kept.

-- Options that these two transitions need not look at: none, the nonce, one of priority, max_crashes and keep_s; and the JSON
-- behind them, which is the worker's. A space is before it, or that brace stands in a word.
local function is_plain(created, options, extra)
  if #created > MOST_DIGITS then return false end
  if extra ~= '' then
    if string.sub(options, -1) ~= ' ' then return false end
    options = string.sub(options, 1, -2)
  end
  local more = string.match(options, '^ n%S+(.*)$') or options
  return more == '' or #more < MOST_DIGITS and string.find(more, '^ [pck]%d+$') ~= nil
end

-- The record once it is claimed; nil when it is not plain.
local function plainly_claimed(raw, token, worker)
  local rest, created, options, extra = string.match(raw, '^q(\n(%d+) %S+%f[%s]([^\n{]*)%f[\n{]([^\n]*)\n.*)$')
  if not rest or not is_plain(created, options, extra) then return nil end
  return 'r 1 0 0 0 ' .. token .. ' ' .. now_ms .. ' ' .. now_ms .. ' 0 - ' .. worker .. rest
end

-- The record once its owner has completed it; nil when it is not plain (it never failed nor crashed, nobody watches it,
-- nothing was noted with it), or not the owner's.
local function plainly_completed(raw, e)
  if e.outcome ~= 'complete' or e.ms < MIN_KEEP_MS or e.ms > LATEST_MS then return nil end
  local attempt, token, started, worker, spec_at, created, options, extra, body_at =
    string.match(raw, '^r (%d+) 0 0 0 (%S+) %d+ (%d+) %d+ %- (%S+)\n()(%d+) %S+%f[%s]([^\n{]*)%f[\n{]([^\n]*)\n()')
  if token ~= e.token or tonumber(attempt) ~= e.attempt or not is_plain(created, options, extra) then return nil end
  return 'c ' .. e.attempt .. ' 0 0 ' .. #e.note .. ' ' .. token .. ' ' .. now_ms .. ' ' .. started .. ' 0 - ' .. worker
    .. '\n' .. string.sub(raw, spec_at, body_at - 1) .. e.note .. string.sub(raw, body_at)
end
