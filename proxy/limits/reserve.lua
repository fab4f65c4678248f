-- Takes all that a call holds, or nothing.
-- KEYS: the project's statements, the worker's leases, the tombstone of this lease, then the counters.
-- ARGV: lease, its text, the worker's process; then for each counter its mechanic (minute, ten_minutes, day, open,
-- money), amount, limit, "shadow" or "", mark.
-- Answers {now_ms, what became of it}: 0 refused, 1 granted, 2 cancelled, and for each counter that the call doesn't fit
-- in its index, what is used, and the wait in ms (-1: none known), or of money what is held; or 3, and the indexes of
-- counters of which this process has not stated what its worker took before; or 4, and by turns the index of a budget
-- and who has yet to say what it spent of that.
local stated, leases, cancelled, lease, process = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[3]
local count = #KEYS - 3

local marks = {}
for i = 1, count do marks[i] = ARGV[3 + i * 5] end
local answer, untold, known = {now_ms, 3}, {now_ms, 4}, {}
for i, mark in ipairs(redis.call('HMGET', stated, unpack(marks))) do
  local is_stated = mark == process
  if ARGV[i * 5 - 1] == 'money' then
    local worker, epoch = whose(marks[i])
    known[i] = {money(KEYS[3 + i], worker)}
    is_stated = has_said(epoch, known[i][3], known[i][4])
    if known[i][5] and ARGV[i * 5 + 2] == '' then
      untold[#untold + 1] = i - 1
      untold[#untold + 1] = known[i][5]
    end
  end
  if not is_stated then answer[#answer + 1] = i - 1 end
end
if #answer > 2 then return answer end
if #untold > 2 then return untold end

if redis.call('HEXISTS', leases, lease) == 1 then return {now_ms, 1} end
-- Nothing is written before it must be: a full Redis refuses a script's first write, and none that comes after one.
if redis.call('EXISTS', cancelled) == 1 then
  redis.call('DEL', cancelled)
  return {now_ms, 2}
end

local function wait_ms(key, mechanic, need, oldest, newest)
  local buckets = {}
  for bucket = oldest, newest do buckets[#buckets + 1] = bucket end
  for i, amount in ipairs(redis.call('HMGET', key, unpack(buckets))) do
    if amount then need = need - tonumber(amount) end
    if need <= 0 then return (buckets[i] + SPAN) * WIDTH_S[mechanic] * 1000 - now_ms end
  end
end

answer[2] = 1
for i = 1, count do
  local key, mechanic, amount, limit, shadow = KEYS[3 + i], ARGV[i * 5 - 1], tonumber(ARGV[i * 5]),
    tonumber(ARGV[i * 5 + 1]), ARGV[i * 5 + 2]
  if amount > 0 then
    local used, wait = 0, -1
    if WIDTH_S[mechanic] then
      known[i] = {window(key, mechanic, NOW[mechanic])}
      used = known[i][1]
      if used + amount > limit and amount <= limit then
        wait = wait_ms(key, mechanic, used + amount - limit, known[i][2], known[i][3])
      end
    elseif mechanic == 'day' then
      used = day(key)
      known[i] = used
    elseif mechanic == 'money' then
      used, wait = known[i][1] + known[i][2], known[i][2]
    else
      used = open(key)
    end
    if used + amount > limit then
      if shadow == '' then answer[2] = 0 end
      for _, value in ipairs({i - 1, used, wait}) do answer[#answer + 1] = value end
    end
  end
end
if answer[2] == 0 then return answer end

for i = 1, count do
  local key, mechanic, amount = KEYS[3 + i], ARGV[i * 5 - 1], tonumber(ARGV[i * 5])
  if WIDTH_S[mechanic] then
    local now = NOW[mechanic]
    add(key, mechanic, now, amount, unpack(known[i] or {window(key, mechanic, now)}, 1, 4))
  elseif mechanic == 'day' then
    set_day(key, (known[i] or day(key)) + amount)
  elseif mechanic == 'money' then
    local worker, epoch = whose(marks[i])
    set_money(key, worker, epoch, known[i][3][2], known[i][3][3] + amount)
  else
    if amount == 0 then open(key) end
    add_open(key, lease)
  end
end
redis.call('HSET', leases, lease, entry_of(time[1], history, ARGV[2]))
redis.call('EXPIRE', leases, KEEP_LEASES_S)
redis.call('EXPIRE', stated, KEEP_LEASES_S)
return answer
