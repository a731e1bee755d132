-- End a recount with what the audit log says was spent until its beginning.
--
-- KEYS: state.   ARGV: 1 what `begin_recount` returned   2 tokens spent that day   3 in that month
--
-- The log is never ahead of what was settled, but may be behind: what Redis has counted of the same
-- day and month stands.
--
-- Returns 1, or 0 where the recount is no longer the one under way, midnight passed meanwhile, or
-- the clock stepped back: then the log holds, up to the cutoff, what was counted apart as well

local s = load(KEYS[1], '')
local began = tonumber(ARGV[1])
if s.c ~= began then return 0 end
redis.call('HDEL', s.state, 'c', 'n', 'ub', 'w')
if math.floor(began / 86400000000) ~= today or now < began then return 0 end
local since = s.n or 0
redis.call('HSET', s.state,
  'd', int(today), 'ds', int(math.max(s.ds or 0, tonumber(ARGV[2]) + since)),
  'm', int(month_of(today)), 'ms', int(math.max(s.ms or 0, tonumber(ARGV[3]) + since)),
  'u', int(math.max(0, s.u - (s.ub or 0))))
redis.call('PEXPIRE', s.state, int(BUDGET_KEPT_SECONDS * 1000))
return 1
