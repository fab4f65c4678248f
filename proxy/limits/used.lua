-- What is taken of counters now.
-- KEYS: the project's statements, then the counters. ARGV: the worker's process; then for each counter its mechanic and
-- its mark.
-- Answers {now_ms, 1, and by turns what is taken of each, and how much of that is money that is only held};
-- or {now_ms, 3, the indexes of counters …} or {now_ms, 4, …} as reserve.lua does, but also of those in shadow.
local answer, untold, known = {now_ms, 3}, {now_ms, 4}, {}
for i = 2, #KEYS do
  local mechanic, mark = ARGV[i * 2 - 2], ARGV[i * 2 - 1]
  local is_stated
  if mechanic == 'money' then
    local worker, epoch = whose(mark)
    known[i] = {money(KEYS[i], worker)}
    is_stated = has_said(epoch, known[i][3], known[i][4])
    if known[i][5] then
      untold[#untold + 1] = i - 2
      untold[#untold + 1] = known[i][5]
    end
  else
    is_stated = redis.call('HGET', KEYS[1], mark) == ARGV[1]
  end
  if not is_stated then answer[#answer + 1] = i - 2 end
end
if #answer > 2 then return answer end
if #untold > 2 then return untold end
answer[2] = 1
for i = 2, #KEYS do
  local key, mechanic, held = KEYS[i], ARGV[i * 2 - 2], 0
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
