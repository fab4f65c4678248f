-- Says that a process is there, or that it leaves; and answers who is.
-- KEYS: the register, the stream of questions, since when each process has been there. ARGV: the process, "left" or "",
-- since when it has been there.
-- The register is a hash: of each process when it was heard last, in ms, less than nothing if it has left.
-- Answers {now_ms, for how many ms there has been a register, since when who beat before under this name has been
-- there, and by turns each process and how many ms ago it was heard, or -1 if it has left}.
local register, asked, began, worker, left = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2] == 'left'
local KEEP_BEAT_MS, KEEP_ASKED = 600000, 1000

local before = tonumber(redis.call('HGET', register, worker) or -1)
redis.call('HSETNX', register, '@since', now_ms)
redis.call('HSET', register, worker, left and -now_ms or now_ms)
redis.call('EXPIRE', register, KEEP_BEAT_MS / 1000)
if left or before < 0 then -- others needn't wait for their next beat to hear of it
  redis.call('XADD', asked, 'MAXLEN', '~', KEEP_ASKED, '*', left and 'left' or 'joined', worker)
  redis.call('EXPIRE', asked, KEEP_BEAT_MS / 1000)
end

local of, answer = redis.call('HGETALL', register), {now_ms, 0, redis.call('HGET', began, worker) or ''}
redis.call('HSET', began, worker, ARGV[3])
redis.call('EXPIRE', began, KEEP_BEAT_MS / 1000)
for i = 1, #of, 2 do
  local at = tonumber(of[i + 1])
  if of[i] == '@since' then
    answer[2] = math.max(now_ms - at, 0)
  elseif math.abs(at) < now_ms - KEEP_BEAT_MS then
    redis.call('HDEL', register, of[i])
    redis.call('HDEL', began, of[i])
  else
    answer[#answer + 1] = of[i]
    answer[#answer + 1] = at < 0 and -1 or math.max(now_ms - at, 0)
  end
end
return answer
