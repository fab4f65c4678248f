-- Puts in what a worker took while Redis wasn't asked, unchecked.
-- KEYS: the project's statements, the worker's leases, then the counters.
-- ARGV: "whole" (all that the worker took of counters of which it has stated nothing) or the id of what it took
-- in an outage (of counters of which it has); the worker; how many leases, and each with its entry; then for each counter
-- its mechanic, its mark, how many values, and these: bucket and amount by turns, or one amount, or leases; of money
-- what the worker spent and holds, which stands in place of what it stated in another epoch.
-- Answers {now_ms}.
local stated, leases = KEYS[1], KEYS[2]
local whole, at = ARGV[1] == 'whole', 4
local batch = 'batch:' .. ARGV[2]
if not whole then
  if redis.call('HGET', stated, batch) == ARGV[1] then return {now_ms} end -- its answer had not arrived
  redis.call('HSET', stated, batch, ARGV[1])
end

for _ = 1, tonumber(ARGV[3]) do
  redis.call('HSETNX', leases, ARGV[at], ARGV[at + 1])
  at = at + 2
end
redis.call('EXPIRE', leases, KEEP_LEASES_S)

local function put_window(key, mechanic, from, to)
  local now = NOW[mechanic]
  for i = from, to, 2 do
    local bucket, amount = math.min(tonumber(ARGV[i]), now), tonumber(ARGV[i + 1])
    if bucket > now - SPAN then add(key, mechanic, bucket, amount, window(key, mechanic, bucket)) end
  end
end

local marks = {}
for i = 3, #KEYS do
  local key, mechanic, mark, from, to = KEYS[i], ARGV[at], ARGV[at + 1], at + 3, at + 2 + tonumber(ARGV[at + 2])
  at = to + 1
  local is_stated = redis.call('HEXISTS', stated, mark) == 1
  if mechanic == 'money' then
    local worker, epoch = whose(mark)
    local _, _, mine = money(key, worker)
    if not mine or mine[1] ~= epoch then set_money(key, worker, epoch, ARGV[from], ARGV[to]) end
  elseif is_stated ~= whole then
    if WIDTH_S[mechanic] then
      put_window(key, mechanic, from, to)
    elseif mechanic == 'day' then
      set_day(key, day(key) + tonumber(ARGV[from]))
    else
      open(key)
      for lease = from, to do add_open(key, ARGV[lease]) end
    end
  end
  if mechanic ~= 'money' then marks[#marks + 1] = mark end
end
if whole then
  for _, mark in ipairs(marks) do redis.call('HSET', stated, mark, 1) end
end
redis.call('EXPIRE', stated, KEEP_LEASES_S)
return {now_ms}
