-- forget: the rows of these receipts are gone, so nobody relays them any more. The receipts stay a little longer, for those
-- who were about to.
-- Returns how many there were. Safe to send twice.
local keep_ms = ARGV[1]
local receipts_from = 2 -- ARGV[2..]: receipt

local found = 0
for i = receipts_from, #ARGV do found = found + redis.call('PEXPIRE', base .. 'o:' .. ARGV[i], keep_ms) end
return found
