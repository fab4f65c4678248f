-- What is taken of counters now.
-- KEYS: the project's statements, then the counters. ARGV: for each counter its mechanic and its mark.
-- Answers {now_ms, 1, what is taken of each}; or {now_ms, 3, the indexes of counters …} as reserve.lua does.
local answer = {now_ms, 3}
for i = 2, #KEYS do
  if redis.call('HEXISTS', KEYS[1], ARGV[i * 2 - 2]) == 0 then answer[#answer + 1] = i - 2 end
end
if #answer > 2 then return answer end
answer[2] = 1
for i = 2, #KEYS do
  local key, mechanic = KEYS[i], ARGV[i * 2 - 3]
  answer[#answer + 1] = mechanic == 'minute' and (minute(key, now_s)) or mechanic == 'day' and day(key) or
    mechanic == 'open' and open(key)
end
return answer
