-- hasten: time passes for what is still to come: all times of jobs that have not begun lie `ms` earlier. For tests: Redis' own
-- clock cannot be set. What has ended keeps its time to live, and schedules keep their ticks.
-- Returns for how many jobs it passed. Uses _places.
local ms = tonumber(ARGV[1])
local nonce = ARGV[2] -- of this request: sent twice it passes once
local jobs_from = 3 -- ARGV[3..]: ids of the jobs for which it passes; none: all

local wanted, is_for_all = {}, #ARGV < jobs_from
for i = jobs_from, #ARGV do wanted[ARGV[i]] = true end
check_indexes()
local last, moved_then = string.match(redis.call('MGET', base .. 'hastened')[1] or '', '^(%S+) (%d+)$')
if last == nonce then return tonumber(moved_then) end
local function earlier(time) -- zero stands for "not yet" or "never", and stays
  time = tonumber(time)
  return time == 0 and 0 or time - ms
end
local moved = 0
local function move(id, j)
  if not j then return end
  j.created, j.since, j.started, j.due = earlier(j.created), earlier(j.since), earlier(j.started), earlier(j.due)
  j.expires = earlier(j.expires)
  j.spec = spec_of(j)
  write(id, j)
  moved = moved + 1
end
for _, index in ipairs({ READY, DUE }) do
  local members, ids, scores = redis.call('ZRANGE', index, 0, -1, 'WITHSCORES'), {}, {}
  for i = 1, #members, 2 do
    if is_for_all or wanted[members[i]] then ids[#ids + 1], scores[#scores + 1] = members[i], tonumber(members[i + 1]) end
  end
  local jobs = read_many(ids)
  for i, id in ipairs(ids) do
    if index == DUE then redis.call('ZADD', DUE, string.format('%.0f', scores[i] - ms), id) end -- the ready are in their order
    move(id, jobs[i])
  end
end
redis.call('SET', base .. 'hastened', nonce .. ' ' .. moved, 'PX', 60000)
if moved > 0 then wake() end
return moved
