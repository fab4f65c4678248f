-- What the scripts share: the store's clock, and what is taken of a counter. It stands before each of them.
-- A sliding minute, or ten, is a hash {total, oldest, newest, <bucket>: amount}; what has passed is let go when it is
-- next looked at. A bucket's number is its time by its width. A day is a number. What is open is a sorted set of leases
-- by the millisecond in which they lapse. Money is a hash: of each worker "<epoch>|<nano-dollars spent>|<nano-dollars
-- held>", all that went through it in that period. A worker that may have missed something begins a new epoch, and
-- states its own sums anew. In the place of an epoch, "?" is for one who is still to say, and "@rest" for one who can't,
-- and for whom somebody else said it. "@history" says in which history of the server's data that was said, and "@rest"
-- is there when all that is of nobody has been put in; both look like sums of nothing.
-- tests/contracts holds all of it against proxy/limits/algorithm.py.
local SPAN, LEASE_MS = 61, 60000
local WIDTH_S = {minute = 1, ten_minutes = 10}
local KEEP_BUCKETS, KEEP_OPEN_S, KEEP_DAY_S, KEEP_LEASES_S, KEEP_CANCELLED_S = 65, 125, 180000, 691200, 600
local KEEP_MONEY_S = {day = KEEP_DAY_S, month = 3024000, total = 34560000}

local history
local time = redis.call('TIME')
local now_s = tonumber(time[1])
local now_ms = now_s * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The bucket that is filled now.
local NOW = {minute = now_s, ten_minutes = math.floor(now_s / WIDTH_S.ten_minutes)}

-- Lets go of what has passed. Returns what is left, its oldest and newest bucket (nil: it is empty), and the amount of
-- the bucket that is asked about (nil: there is none).
local function window(key, mechanic, bucket)
  local now = NOW[mechanic]
  local kept = redis.call('HMGET', key, 'total', 'oldest', 'newest', bucket)
  if not kept[1] then return 0 end
  local total, oldest, newest = tonumber(kept[1]), tonumber(kept[2]), tonumber(kept[3])
  local amount = kept[4] and tonumber(kept[4]) or nil
  if newest > now then -- the clock was set back
    redis.call('DEL', key)
    redis.call('HSET', key, 'total', total, 'oldest', now, 'newest', now, now, total)
    redis.call('EXPIRE', key, KEEP_BUCKETS * WIDTH_S[mechanic])
    return total, now, now, bucket == now and total or nil
  end
  local first = now - SPAN + 1
  if newest < first then
    redis.call('DEL', key)
    return 0
  end
  if oldest < first then
    local passed = {}
    for gone = oldest, first - 1 do passed[#passed + 1] = gone end
    for _, gone in ipairs(redis.call('HMGET', key, unpack(passed))) do
      if gone then total = total - tonumber(gone) end
    end
    redis.call('HDEL', key, unpack(passed))
    redis.call('HSET', key, 'total', total, 'oldest', first)
    oldest = first
    if bucket < first then amount = nil end
  end
  return total, oldest, newest, amount
end

-- Adds to a bucket, given what `window` returned for it.
local function add(key, mechanic, bucket, more, total, oldest, newest, amount)
  if amount then
    redis.call('HSET', key, 'total', total + more, bucket, amount + more)
  else
    redis.call('HSET', key, 'total', total + more, bucket, more, 'oldest', math.min(oldest or bucket, bucket),
      'newest', math.max(newest or bucket, bucket))
    redis.call('EXPIRE', key, KEEP_BUCKETS * WIDTH_S[mechanic])
  end
end

local function day(key)
  return tonumber(redis.call('GET', key) or 0)
end

local function set_day(key, count)
  redis.call('SET', key, math.max(count, 0), 'EX', KEEP_DAY_S)
end

-- How many leases count. Those that lapse later than any can were opened before the clock was set back.
local function open(key)
  local latest = now_ms + LEASE_MS
  if redis.call('ZCOUNT', key, '-inf', now_ms) > 0 then redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms) end
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. latest, '+inf')) do
    redis.call('ZADD', key, latest, lease)
  end
  return redis.call('ZCARD', key)
end

local function add_open(key, lease)
  redis.call('ZADD', key, now_ms + LEASE_MS, lease)
  redis.call('EXPIRE', key, KEEP_OPEN_S)
end

-- Which data this server has. Started anew, or made master in place of another whose last words it may not have heard,
-- it has another history than before.
local function server_history()
  if not history then
    local said = redis.pcall('INFO', 'replication')
    local refused = type(said) == 'table' and said.err
    if refused and not string.find(tostring(refused), 'unknown command', 1, true) then error(said) end
    history = not refused and string.match(said, 'master_replid:(%w+)') or ''
  end
  return history
end

-- What stands in a field of an account.
local SUMS = '^([^|]*)|(%-?%d+)|(%-?%d+)$'

local function read(field)
  local epoch, spent, held = string.match(field, SUMS)
  return {epoch, tonumber(spent), tonumber(held)}
end

-- What all workers spent and hold; what one of them said: {epoch, spent, held}, nil where it never did; the history in
-- which all that was said; and who is still to say something, nil if nobody is.
local function money(key, worker)
  local spent, held, mine, at, rest, untold = 0, 0, nil, nil, nil, nil
  local of = redis.call('HGETALL', key)
  for i = 1, #of, 2 do
    local epoch, its_spent, its_held = string.match(of[i + 1], SUMS)
    spent, held = spent + tonumber(its_spent), held + tonumber(its_held)
    if of[i] == worker then mine = {epoch, tonumber(its_spent), tonumber(its_held)} end
    if of[i] == '@history' then at = epoch end
    if of[i] == '@rest' then rest = true end
    if epoch == '?' then untold = (untold and untold .. ' ' or '') .. of[i] end
  end
  if not rest then untold = (untold and untold .. ' ' or '') .. '@rest' end
  return spent, held, mine, at, untold
end

-- Whether a worker has said, in this epoch and this history, what it spent and holds.
local function has_said(epoch, mine, at)
  return mine and mine[1] == epoch and at == server_history()
end

-- Has a worker's sums stand in an account, whose key ends in what it is per, and its period.
local function set_money(key, worker, epoch, spent, held)
  redis.call('HSET', key, worker, string.format('%s|%.0f|%.0f', epoch, spent, held))
  redis.call('EXPIRE', key, KEEP_MONEY_S[string.match(key, '(%a+):[^:]*$')])
end

-- How a lease is kept: when it was opened; where it holds money, in which history that was stated or granted last; and
-- what it holds, with the epoch of its worker at its end.
local function entry_of(second, at, text)
  return second .. (at and '@' .. at or '') .. '|' .. text
end

local function second_of(entry)
  return string.match(entry, '^%d+')
end

-- Whether an account has money of a lease that an earlier process left in it, by what that said last, and in which
-- history. A lease that had ended by then may be there again, where the server went back to older data.
local function has_lease(key, entry, mine)
  local its_history, epoch = string.match(entry, '^%d+@(%w*)|.*"([^"]*)"%]$')
  if not epoch or mine[1] == '?' then return true end
  local at = redis.call('HGET', key, '@history')
  return mine[1] == epoch and at and read(at)[1] == its_history
end

-- "<worker>|<epoch>", as an account's mark.
local function whose(mark)
  return string.match(mark, '^(.*)|(.-)$')
end
