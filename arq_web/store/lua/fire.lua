-- fire: enqueue the job of one tick and move the schedule on, if that tick is the stored one and its time has come.
-- Exactly one job per tick, whoever asks, however often. Without a job it only moves on (a skipped misfire).
-- Returns {outcome, now_ms, stored tick ms, id}: 'fired' (the id is an earlier job's, when that holds the unique key), 'early',
-- 'moved' (another process was first, or somebody has skipped it: then no id), 'foreign' (another spec was declared), 'absent' (not
-- declared), 'conflict' (the job's id belongs to another task; then its name for the id). Uses _places, _create.
local name = ARGV[1]
local fingerprint = ARGV[2]
local tick_ms = tonumber(ARGV[3])
local next_tick_ms = tonumber(ARGV[4])
local asker = ARGV[5] -- who skips a tick: without a job there is no nonce that tells one process from another
local jobs_from = 6 -- ARGV[6..]: one job, as for enqueue

check_indexes()
local key = base .. 's:' .. name
local tick, stored, fired, skipper = string.match(redis.call('MGET', key)[1] or '', '^(%d+) (%S+) (%d+) ?(%S*)$')
tick = tonumber(tick)
if not tick then return { 'absent', now_ms, 0, '' } end
if stored ~= fingerprint then return { 'foreign', now_ms, tick, '' } end
local outcome, id
local a = ARGV[jobs_from] and arguments(jobs_from)
if a then outcome, id = obstacle(a) end
if tonumber(fired) == tick_ms then -- by this very request, sent again; or by another process, whose job has another nonce
  if a and skipper ~= '' then return { 'moved', now_ms, tick, '' } end -- somebody has skipped it: this job is not made
  local is_others = outcome == CONFLICT or outcome == EXISTS and id == a.id or not a and skipper ~= asker
  return { is_others and 'moved' or 'fired', now_ms, tick, is_others and a and a.id or id or '' }
end
if tick ~= tick_ms then return { 'moved', now_ms, tick, '' } end
if now_ms < tick_ms then return { 'early', now_ms, tick, '' } end
if outcome == CONFLICT or outcome == CORRUPT then return { 'conflict', now_ms, tick, id } end
if a and not outcome then
  create(a)
  save_created()
  count('enqueued')
end
redis.call('SET', key, next_tick_ms .. ' ' .. fingerprint .. ' ' .. tick_ms .. (a and '' or ' ' .. asker))
redis.call('PEXPIREAT', key, math.max(next_tick_ms, now_ms) + WEEK_MS)
save_counts()
return { 'fired', now_ms, next_tick_ms, id or a and a.id or '' }
