-- Ends a lease, corrects what it held, and counts what was spent.
-- KEYS: the project's statements, the worker's leases, the tombstone of this lease, then the counters that change.
-- ARGV: lease, "cancel" or ""; then for each counter its mechanic (minute, ten_minutes, day, open, money), the
-- difference (of money "<spent>|<held>"), and its mark (of money whose epoch is "*": that in which the lease was held).
-- Answers {now_ms, 1}, or {now_ms, 0} where the lease isn't there; and the accounts that are there and didn't take it:
-- the worker will have to state its sums anew.
local stated, leases, cancelled, lease = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local answer = {now_ms, 0}
local entry = redis.call('HGET', leases, lease) or ''
local second = tonumber(second_of(entry))
if second then
  answer[2] = 1
  redis.call('HDEL', leases, lease)
elseif ARGV[2] == 'cancel' then
  redis.call('SET', cancelled, 1, 'EX', KEEP_CANCELLED_S)
end

for i = 4, #KEYS do
  local key, mechanic, difference, mark = KEYS[i], ARGV[i * 3 - 9], tonumber(ARGV[i * 3 - 8]), ARGV[i * 3 - 7]
  if mechanic == 'open' then
    open(key)
    redis.call('ZREM', key, lease)
  elseif mechanic == 'money' then
    local spent, held = string.match(ARGV[i * 3 - 8], '^(.*)|(.*)$')
    local worker, epoch = whose(mark)
    local said = redis.call('HGET', key, worker)
    local mine = said and read(said)
    local left = mine and second and epoch == '*' and mine[1] ~= '@rest' and has_lease(key, entry, mine)
    if mine and (mine[1] == epoch or left) then
      if not second then held = 0 end
      set_money(key, worker, mine[1], mine[2] + tonumber(spent), mine[3] + tonumber(held))
    elseif epoch ~= '*' and redis.call('EXISTS', key) == 1 then
      answer[#answer + 1] = key
    end
  -- Of what this worker has not stated, it will state the sum, this correction included.
  elseif second and redis.call('HEXISTS', stated, mark) == 1 then
    if mechanic == 'day' then
      set_day(key, day(key) + difference)
    elseif difference > 0 then
      local now = NOW[mechanic]
      add(key, mechanic, now, difference, window(key, mechanic, now))
    else
      local bucket = math.floor(second / WIDTH_S[mechanic])
      local total, _, _, amount = window(key, mechanic, bucket)
      if amount then
        local given = math.min(-difference, amount)
        redis.call('HSET', key, 'total', total - given, bucket, amount - given)
      end
    end
  end
end
return answer
