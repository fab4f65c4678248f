-- What is taken of counters now.
-- KEYS: the project's statements, then the counters. ARGV: for each counter its mechanic and its mark.
-- Answers {now_ms, 1, and by turns what is taken of each, and how much of that is money that is only held};
-- or {now_ms, 3, the indexes of counters …} as reserve.lua does.
local answer, known = {now_ms, 3}, {}
for i = 2, #KEYS do
  local mechanic, mark = ARGV[i * 2 - 3], ARGV[i * 2 - 2]
  local is_stated
  if mechanic == 'money' then
    local worker, epoch = whose(mark)
    known[i] = {money(KEYS[i], worker)}
    is_stated = known[i][3] and known[i][3][1] == epoch
  else
    is_stated = redis.call('HEXISTS', KEYS[1], mark) == 1
  end
  if not is_stated then answer[#answer + 1] = i - 2 end
end
if #answer > 2 then return answer end
answer[2] = 1
for i = 2, #KEYS do
  local key, mechanic, held = KEYS[i], ARGV[i * 2 - 3], 0
  local used
  if mechanic == 'money' then
    used, held = known[i][1] + known[i][2], known[i][2]
  else
    used = WIDTH_S[mechanic] and (window(key, mechanic, NOW[mechanic]))
      or mechanic == 'day' and day(key) or open(key)
  end
  answer[#answer + 1] = used
  answer[#answer + 1] = held
end
return answer
