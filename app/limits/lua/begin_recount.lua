-- Begin to count a subject's budget from the audit log: from this moment on what is settled is
-- counted apart, so that what was settled before can be summed up meanwhile.
--
-- KEYS: state.
-- ARGV: 1 how long another recount may take, us
--       2 whether this one can wait (1, or 0): one that cannot takes its place
-- Returns now (us), or 0 while another one is under way

local s = load(KEYS[1], '')
local patient = ARGV[2] == '1'
local running = s.c and now >= s.c and now - s.c < tonumber(ARGV[1])
if running and (patient or not s.w) then return 0 end
redis.call('HSET', s.state, 'c', int(now), 'n', 0, 'ub', int(s.u))
if patient then redis.call('HSET', s.state, 'w', 1) else redis.call('HDEL', s.state, 'w') end
redis.call('PEXPIRE', s.state, int(BUDGET_KEPT_SECONDS * 1000))
return now
