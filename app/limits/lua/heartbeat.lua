-- Say that a replica lives, and learn how many do.
--
-- KEYS: a sorted set: replica -> the moment (us) until which it counts.
-- ARGV: 1 the replica   2 how long it counts, us (0: it leaves)
-- Returns how many live

local life = tonumber(ARGV[2])
if life > 0 then
  redis.call('ZADD', KEYS[1], int(now + life), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], int(life / 1000))
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. int(now + life), '+inf') -- before a step back
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(now))
return redis.call('ZCARD', KEYS[1])
