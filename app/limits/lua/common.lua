-- What the scripts share; it stands before each of them.
--
-- A subject is an API key or a tenant. It has two Redis keys, both under the tenant's hash tag:
--   state   a hash:   a   the moment (us) of `r` and `t`
--                     r   requests missing from the bucket   t   tokens missing from it
--                     rl, tl   the limits by which they are missing (0: none)
--                     h   tokens held by open reservations
--                     d   the day (UTC, days since 1970)     ds  tokens spent on it
--                     m   the month (months since year 0)    ms  tokens spent in it
--                     u   tokens whose true cost nobody knows yet: counted until the next recount
--                     c   a recount's cutoff (us)   n  spent since then   ub  `u` as it was then
--                     w   1 where that recount can wait
--                     and each open reservation: its request id, and the tokens that it holds;
--                     with a minus sign where the bucket was never charged for them
--   leases  a sorted set: request id -> the moment (us) at which its lease ends

local WINDOW = 60000000                  -- us: a bucket fills up in one minute
local KEPT_SECONDS = 600                 -- beyond the filling of buckets; longer than any lease
local BUDGET_KEPT_SECONDS = 40 * 86400   -- budgets outlive the longest month
-- Leases outlive what they hold: without them nothing could end it.
local LEASES_KEPT_SECONDS = BUDGET_KEPT_SECONDS + KEPT_SECONDS
local REAPED_AT_ONCE = 20                -- bounds a call's work
local time = redis.call('TIME')          -- once: on Redis 7 it moves within a script
local now = time[1] * 1000000 + time[2]
local today = math.floor(now / 86400000000)

-- tostring() has 14 digits and loses microseconds; %.0f of a small negative is "-0", which no
-- counter takes.
local function int(x) return string.format('%.0f', x + 0) end
local function real(x) return string.format('%.17g', x) end

-- Months since year 0, of days since 1970 (Howard Hinnant, civil_from_days).
local function month_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local year = yoe + era * 400
  if mp >= 10 then return (year + 1) * 12 + mp - 10 end
  return year * 12 + mp + 2
end

local FIELDS = {'a', 'r', 't', 'rl', 'tl', 'h', 'd', 'ds', 'm', 'ms', 'u', 'c', 'n', 'ub', 'w'}

-- A subject's state as numbers, at this moment. `m` stays nil until the budget has been counted.
-- What was spent on a day that the clock stepped back from is known to the audit log only.
local function load(state, leases)
  local raw = redis.call('HMGET', state, unpack(FIELDS))
  local s = {state = state, leases = leases}
  for i, name in ipairs(FIELDS) do s[name] = tonumber(raw[i] or nil) end
  s.at = s.a or now
  s.r, s.t, s.h, s.u = s.r or 0, s.t or 0, s.h or 0, s.u or 0
  if s.m then
    if s.d > today then
      redis.call('HDEL', state, 'd', 'ds', 'm', 'ms')
      s.d, s.ds, s.m, s.ms = nil, nil, nil, nil
    elseif s.d < today then
      local month = month_of(today)
      if s.m ~= month then s.m, s.ms = month, 0 end
      s.d, s.ds = today, 0
    end
  end
  return s
end

-- What is missing from a bucket of `limit`, now. A clock that stepped back brings nothing.
local function missing(s, units, limit)
  if units == 0 or limit == 0 then return 0 end
  local elapsed = now - s.at
  if elapsed < 0 then elapsed = 0 end
  local left = units - elapsed * limit / WINDOW
  if left < 0 then return 0 end
  return left
end

-- Charges what was spent to the day, the month, and a recount that is under way.
local function spend(s, tokens)
  if s.m then s.ds, s.ms = s.ds + tokens, s.ms + tokens end
  if s.c then s.n = (s.n or 0) + tokens end
end

-- Where the clock stepped back, leases step back with it: a dead one must not live longer by that.
-- To be called before `save`, which forgets the step.
local function step_back(s)
  if not s.a or now >= s.a then return end
  local leases = redis.call('ZRANGE', s.leases, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    redis.call('ZADD', s.leases, int(leases[i + 1] - (s.a - now)), leases[i])
  end
end

-- Ends leases that nobody renewed. What they held counts until the next recount says what it was.
local function reap(s)
  local ended = redis.call(
    'ZRANGEBYSCORE', s.leases, '-inf', int(now), 'LIMIT', 0, REAPED_AT_ONCE)
  for _, id in ipairs(ended) do
    redis.call('ZREM', s.leases, id)
    local held = tonumber(redis.call('HGET', s.state, id) or nil)
    if held then
      redis.call('HDEL', s.state, id)
      s.h = math.max(0, s.h - math.abs(held))
      if s.m then s.u = s.u + math.abs(held) end
    end
  end
end

-- Microseconds until a bucket is full again.
local function fill_us(limit, used)
  if limit == 0 then return 0 end
  return math.min(math.ceil(used * WINDOW / limit), 9e15) -- a reply has 64 bits
end

-- What the rounding of doubles may add up to; less than a unit of the largest limit, 10^12.
local function rounding(limit) return 1e-9 + limit * 1e-13 end

-- Brings the buckets and the leases of a subject to this moment. The limits are those that were
-- last asked about, or those given where none were.
local function refill(s, rpm, tpm)
  step_back(s)
  s.rpm, s.tpm = s.rl or rpm, s.tl or tpm
  s.r, s.t = missing(s, s.r, s.rpm), missing(s, s.t, s.tpm)
end

-- What is missing after a limit changed. Of one that was lowered, as many seconds as before: else a
-- bucket that held a thousand would take hours to fill with ten a minute.
local function lowered(units, before, limit)
  if before == 0 or limit == 0 or limit >= before then return units end
  return units * limit / before
end

-- The limits that hold from now on.
local function bind(s, rpm, tpm)
  s.r, s.t = lowered(s.r, s.rpm, rpm), lowered(s.t, s.tpm, tpm)
  s.rpm, s.tpm = rpm, tpm
end

-- Writes what `load` read, `refill` brought to now, and the script changed.
local function save(s)
  local fields = {
    'a', int(now), 'r', real(s.r), 't', real(s.t), 'rl', int(s.rpm), 'tl', int(s.tpm),
    'h', int(s.h), 'u', int(s.u)}
  local kept = math.max(fill_us(s.rpm, s.r), fill_us(s.tpm, s.t)) / 1000000 + KEPT_SECONDS
  if s.m then
    for _, name in ipairs({'d', 'ds', 'm', 'ms'}) do
      fields[#fields + 1] = name
      fields[#fields + 1] = int(s[name])
    end
    kept = math.max(kept, BUDGET_KEPT_SECONDS)
  end
  if s.c and s.n then
    fields[#fields + 1] = 'n'
    fields[#fields + 1] = int(s.n)
  end
  redis.call('HSET', s.state, unpack(fields))
  redis.call('PEXPIRE', s.state, int(math.ceil(kept * 1000)))
end

-- Gives a request its place in a subject's leases.
local function hold(s, id, tokens, lease, charged)
  s.h = s.h + tokens
  redis.call('HSET', s.state, id, (charged and '' or '-') .. int(tokens))
  redis.call('ZADD', s.leases, int(now + lease), id)
  redis.call('PEXPIRE', s.leases, int(LEASES_KEPT_SECONDS * 1000))
end
