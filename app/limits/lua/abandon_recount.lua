-- Give up a recount, so that the next one need not wait until it counts as dead.
--
-- KEYS: state.   ARGV: 1 what `begin_recount` returned
-- Returns 1, or 0 where it is no longer the one under way

local s = load(KEYS[1], '')
if s.c ~= tonumber(ARGV[1]) then return 0 end
redis.call('HDEL', s.state, 'c', 'n', 'ub', 'w')
return 1
