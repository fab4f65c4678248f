-- Puts in what a worker took while Redis wasn't asked, unchecked.
-- KEYS: the project's statements, the worker's leases, then the counters.
-- ARGV: the id of an outage, or ""; the worker; its process; how many leases, and of each its id, when it
-- was opened, and its text; then for each counter its mechanic, its mark, how it is put in, how many values, and these:
-- bucket and amount by turns, or one amount, or leases; of money what the worker spent and holds, which stands in place
-- of what it stated in another epoch, and then by turns the ids of others and what they spent, with a "+" before it where
-- they may say it themselves, or "?" where they will.
-- How: "alone", what the worker took in that outage (added once, where something was stated of the counter); "whole",
-- all that it took (counted where it has stated nothing of the counter; where this process of it, or one before, has,
-- as much is counted as is wanting to that, as what one took alone that died before it could say so). They come
-- together, and in this order: where a full Redis refused one of two commands, what was taken alone would count twice.
-- Of money: "again" (only where it said something before, in this history), "mine", or "disk" or "rest" (which is all
-- that is of nobody who lives).
-- Answers {now_ms}.
local stated, leases = KEYS[1], KEYS[2]
local outage, at = ARGV[1], 5
local batch = 'batch:' .. ARGV[2]
local is_put_in = redis.call('HGET', stated, batch) == outage -- its answer had not arrived
if outage ~= '' and not is_put_in then redis.call('HSET', stated, batch, outage) end

for _ = 1, tonumber(ARGV[4]) do
  local entry = redis.call('HGET', leases, ARGV[at])
  local second, text = entry and second_of(entry) or ARGV[at + 1], ARGV[at + 2]
  local is_of_money = string.find(text, '"usd"', 1, true)
  redis.call('HSET', leases, ARGV[at], entry_of(second, is_of_money and server_history(), text))
  at = at + 3
end
redis.call('EXPIRE', leases, KEEP_LEASES_S)

local function put_window(key, mechanic, from, to, is_known)
  local now, wanting = NOW[mechanic], is_known and -window(key, mechanic, NOW[mechanic]) or 0
  for i = from, to, 2 do
    if tonumber(ARGV[i]) > now - SPAN then wanting = wanting + tonumber(ARGV[i + 1]) end
  end
  for i = to - 1, from, -2 do -- the newest first: what is wanting was taken last
    local bucket, amount = math.min(tonumber(ARGV[i]), now), math.min(tonumber(ARGV[i + 1]), wanting)
    if bucket > now - SPAN and amount > 0 then
      add(key, mechanic, bucket, amount, window(key, mechanic, bucket))
      wanting = wanting - amount
    end
  end
end

-- Nothing that was said in another history counts before it is said again.
local function count_anew(key, at)
  local of = at and redis.call('HGETALL', key) or {} -- an older version knew no history
  for i = 1, #of, 2 do
    local last = read(of[i + 1])
    if string.sub(of[i], 1, 1) ~= '@' then set_money(key, of[i], '?', last[2], last[3]) end
  end
  if at then redis.call('HDEL', key, '@rest') end
  redis.call('HSET', key, '@history', server_history() .. '|0|0')
end

-- For those who can't say it themselves. Whoever did, knows better; and what was known last is never made less.
local function put_others(key, worker, from, to)
  for i = from, to, 2 do
    local id, spent = ARGV[i], tonumber(ARGV[i + 1])
    local said = redis.call('HGET', key, id)
    local last = said and read(said)
    if id ~= worker and not spent then
      if not said then set_money(key, id, '?', 0, 0) end
    elseif id ~= worker and (not said or last[1] == '@rest' or last[1] == '?' and string.sub(ARGV[i + 1], 1, 1) ~= '+') then
      if said and spent < last[2] + last[3] then
        set_money(key, id, '@rest', last[2], last[3])
      else
        set_money(key, id, '@rest', spent, 0)
      end
    end
  end
end

local function put_money(key, mark, how, from, to)
  local worker, epoch = whose(mark)
  local spent, held = ARGV[from], ARGV[from + 1]
  local said = redis.call('HMGET', key, worker, '@history')
  local mine, at = said[1] and read(said[1]), said[2] and read(said[2])[1]
  if how == 'again' then
    local is_said = mine and at == server_history() and mine[1] ~= '?' and mine[1] ~= '@rest'
    if is_said and mine[1] ~= epoch then set_money(key, worker, epoch, spent, held) end
    return
  end
  if not has_said(epoch, mine, at) then
    if at ~= server_history() then count_anew(key, at) end
    set_money(key, worker, epoch, spent, held)
  end
  put_others(key, worker, from + 2, to)
  if how == 'rest' then redis.call('HSET', key, '@rest', '|0|0') end
end

local marks = {}
for i = 3, #KEYS do
  local key, mechanic, mark, how = KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local from, to = at + 4, at + 3 + tonumber(ARGV[at + 3])
  at = to + 1
  local is_stated, whole = redis.call('HEXISTS', stated, mark) == 1, how == 'whole'
  if mechanic == 'money' then
    put_money(key, mark, how, from, to)
  elseif whole or is_stated and not is_put_in then
    local is_known = whole and is_stated
    if WIDTH_S[mechanic] then
      put_window(key, mechanic, from, to, is_known)
    elseif mechanic == 'day' then
      local count, taken = day(key), tonumber(ARGV[from])
      set_day(key, is_known and math.max(count, taken) or count + taken)
    else
      open(key)
      for lease = from, to do add_open(key, ARGV[lease]) end
    end
  end
  if whole then marks[#marks + 1] = mark end
end
for _, mark in ipairs(marks) do redis.call('HSET', stated, mark, ARGV[3]) end
redis.call('EXPIRE', stated, KEEP_LEASES_S)
return {now_ms}
