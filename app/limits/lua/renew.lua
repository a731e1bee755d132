-- Renew the leases of running requests, and take up again those that Redis lost.
--
-- KEYS: state, leases of one subject.
-- ARGV: 1 lease us   2 requests/min   3 tokens/min (0: no limit)
--       then for each request: its id, the tokens that it holds
-- Returns how many had been lost
--
-- A lost one is held with a minus sign: the bucket that it was charged to is gone, so nothing comes
-- back to the new one.

local lease = tonumber(ARGV[1])
local s = load(KEYS[1], KEYS[2])
refill(s, tonumber(ARGV[2]), tonumber(ARGV[3]))
local lost = 0
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  if redis.call('HEXISTS', s.state, id) == 1 then
    redis.call('ZADD', s.leases, int(now + lease), id)
  else
    hold(s, id, tonumber(ARGV[i + 1]), lease, false)
    lost = lost + 1
  end
end
redis.call('PEXPIRE', s.leases, int(LEASES_KEPT_SECONDS * 1000))
save(s)
return lost
