-- Replace a reservation by what was used. A second time changes nothing.
--
-- KEYS: state, leases of each subject.
-- ARGV: 1 request id   2 tokens used   3 tokens perhaps used besides
--       4 whether it is late (1, or 0): then a recount charges budgets, as the audit log dated it
--       before
--       then for each subject: requests/min, tokens/min (0: no limit)
-- Returns 1 now (us)   then for each subject: whether a recount is due
--
-- Unused tokens come back to the bucket, an overrun is owed. What may have been used stays charged
-- to the bucket, and counts against budgets until a recount knows. Where there is no reservation it
-- was settled before, reaped, or lost: only the audit log can tell.

local id, used, unsure = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local late = ARGV[4] == '1'
local reply = {now}
for i = 1, #KEYS / 2 do
  local state, leases = KEYS[2 * i - 1], KEYS[2 * i]
  local raw = redis.call('HGET', state, id)
  reply[i + 1] = 1
  if raw then
    local held, charged = math.abs(tonumber(raw)), string.sub(raw, 1, 1) ~= '-'
    local s = load(state, leases)
    refill(s, tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i]))
    redis.call('HDEL', state, id)
    redis.call('ZREM', leases, id)
    if charged and s.tpm > 0 then s.t = math.max(0, s.t + used + unsure - held) end
    s.h = math.max(0, s.h - held)
    if not late then
      spend(s, used)
      if s.m then s.u = s.u + unsure end
      reply[i + 1] = (s.m and s.u > 0) and 1 or 0
    end
    save(s)
  end
end
return reply
