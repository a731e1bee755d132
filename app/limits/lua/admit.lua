-- Admit one request against all limits of its subjects, or take nothing.
--
-- KEYS: state, leases of each subject.
-- ARGV: 1 request id   2 tokens   3 requests (1, or 0)   4 lease us
--       5 whether a reservation is made (1, or 0)
--       then for each subject: requests/min, tokens/min, concurrency, tokens/day, tokens/month
--       (0: no limit)
-- Returns 1 status (0 refused, 1 admitted, 2 admitted before, 3 budget not counted yet)
--         2 subject at fault (from 1)
--         3 limit (1 requests, 2 tokens, 3 concurrency, 4 day, 5 month)
--         4 wait us (-1: waiting does not help)   5 the limit   6 used of it
--         then for each subject: requests left, us until full, tokens left, us until full,
--         budget left (-1: none), whether a recount is due

local id, tokens, requests = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lease, reserving = tonumber(ARGV[4]), ARGV[5] == '1'
local subjects = {}
local again = false
for i = 1, #KEYS / 2 do
  local s = load(KEYS[2 * i - 1], KEYS[2 * i])
  local at = 1 + 5 * i
  local rpm, tpm = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  refill(s, rpm, tpm)
  bind(s, rpm, tpm)
  s.concurrency = tonumber(ARGV[at + 2])
  s.day, s.month = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  reap(s)
  subjects[i] = s
  if reserving and redis.call('HEXISTS', s.state, id) == 1 then again = true end
end

local reply = {1, 0, 0, 0, 0, 0}

local function room(limit, used)
  return math.max(0, math.floor(limit - used + rounding(limit)))
end

local function answer(status)
  reply[1] = status
  for i, s in ipairs(subjects) do
    local budget = -1
    if s.m and s.day > 0 then budget = room(s.day, s.ds + s.h + s.u) end
    if s.m and s.month > 0 then
      local left = room(s.month, s.ms + s.h + s.u)
      if budget < 0 or left < budget then budget = left end
    end
    local at = 1 + 6 * i
    reply[at], reply[at + 1] = room(s.rpm, s.r), fill_us(s.rpm, s.r)
    reply[at + 2], reply[at + 3] = room(s.tpm, s.t), fill_us(s.tpm, s.t)
    reply[at + 4], reply[at + 5] = budget, (s.m and s.u > 0) and 1 or 0
  end
  return reply
end

-- How much waiting a refusal asks for; what no waiting helps comes first, concurrency last.
local worst = -1
local function refuse(i, kind, wait, limit, used, rank)
  if rank > worst then
    worst = rank
    reply[2], reply[3], reply[4], reply[5], reply[6] = i, kind, wait, limit, math.ceil(used)
  end
end
local NEVER, UNTIL_LATER = 1e18, 1e17

local function check_rate(i, kind, limit, used, cost)
  if limit == 0 or cost == 0 then return end
  if cost > limit then return refuse(i, kind, -1, limit, used, NEVER) end
  local over = used + cost - limit
  if over > rounding(limit) then
    local wait = math.ceil(over * WINDOW / limit)
    refuse(i, kind, wait, limit, used, wait)
  end
end

local function check_budget(i, kind, limit, s, spent)
  if limit == 0 or tokens == 0 then return end
  local used = spent + s.h + s.u
  if tokens > limit then
    refuse(i, kind, -1, limit, used, NEVER)
  elseif spent + s.u + tokens > limit then
    refuse(i, kind, -1, limit, used, UNTIL_LATER)
  elseif used + tokens > limit then
    refuse(i, kind, 1000000, limit, used, 1) -- what running requests hold may come back
  end
end

for i, s in ipairs(subjects) do
  if tokens > 0 and (s.day > 0 or s.month > 0) and not s.m and reply[2] == 0 then reply[2] = i end
end
if again or reply[2] > 0 then
  for _, s in ipairs(subjects) do save(s) end -- what was reaped
  return answer(again and 2 or 3)
end
for i, s in ipairs(subjects) do
  check_rate(i, 1, s.rpm, s.r, requests)
  check_rate(i, 2, s.tpm, s.t, tokens)
  if s.day > 0 or s.month > 0 then
    check_budget(i, 4, s.day, s, s.ds or 0)
    check_budget(i, 5, s.month, s, s.ms or 0)
  end
  if reserving and s.concurrency > 0 then
    local running = redis.call('ZCOUNT', s.leases, '(' .. int(now), '+inf')
    if running >= s.concurrency then refuse(i, 3, 1000000, s.concurrency, running, 0) end
  end
end

local refused = worst >= 0
for _, s in ipairs(subjects) do
  if not refused then
    if s.rpm > 0 then s.r = s.r + requests end
    if s.tpm > 0 then s.t = s.t + tokens end
    if reserving then hold(s, id, tokens, lease, true) end
  end
  save(s)
end
return answer(refused and 0 or 1)
