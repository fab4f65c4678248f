-- Has open leases count for another minute, also those that had lapsed.
-- KEYS: counters of what is open. ARGV: for each counter how many leases, and these. Answers {now_ms}.
local at = 1
for _, key in ipairs(KEYS) do
  open(key)
  for i = at + 1, at + tonumber(ARGV[at]) do add_open(key, ARGV[i]) end
  at = at + 1 + tonumber(ARGV[at])
end
return {now_ms}
