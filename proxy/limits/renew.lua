-- Has open leases count for another minute, also those that had lapsed.
-- KEYS: a counter of what is open. ARGV: the leases. Answers {now_ms}.
open(KEYS[1])
for _, lease in ipairs(ARGV) do add_open(KEYS[1], lease) end
return {now_ms}
