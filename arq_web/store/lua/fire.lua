-- fire: enqueue the job of one tick and move the schedule on, if that tick is the stored one and its time has come.
-- Exactly one job per tick, whoever asks, however often. An empty task moves on without a job (a skipped misfire).
-- Returns {outcome, now_ms, stored tick ms, id}: 'fired', 'early', 'moved' (another process was first), 'foreign' (another spec
-- was declared), 'absent' (not declared), 'conflict' (the job's id belongs to another task). Uses _create.
local name = ARGV[1]
local fingerprint = ARGV[2]
local tick_ms = tonumber(ARGV[3])
local next_tick_ms = tonumber(ARGV[4])
local jobs_from = 5 -- ARGV[5..]: one job, as for enqueue

local key = base .. 's:' .. name
local tick, stored, fired = string.match(redis.call('GET', key) or '', '^(%d+) (%S+) (%d+)$')
tick = tonumber(tick)
if not tick then return { 'absent', now_ms, 0, '' } end
if stored ~= fingerprint then return { 'foreign', now_ms, tick, '' } end
if tonumber(fired) == tick_ms then return { 'fired', now_ms, tick, ARGV[jobs_from] or '' } end
if tick ~= tick_ms then return { 'moved', now_ms, tick, '' } end
if now_ms < tick_ms then return { 'early', now_ms, tick, '' } end
local id = ''
if ARGV[jobs_from] then
  local a = arguments(jobs_from)
  local outcome
  outcome, id = obstacle(a)
  if outcome == CONFLICT or outcome == CORRUPT then return { 'conflict', now_ms, tick, id } end
  if not outcome then
    create(a)
    count('enqueued', 1)
    id = a.id
  end
end
redis.call('SET', key, next_tick_ms .. ' ' .. fingerprint .. ' ' .. tick_ms)
redis.call('PEXPIREAT', key, math.max(next_tick_ms, now_ms) + WEEK_MS)
return { 'fired', now_ms, next_tick_ms, id }
