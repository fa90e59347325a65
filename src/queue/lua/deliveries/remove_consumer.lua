-- remove_consumer.lua: removes an unused consumer, unless it has pending deliveries (XGROUP DELCONSUMER would drop them).
--
-- KEYS  1 the stream
-- ARGV  1 consumer
-- Returns  1 removed, 0 left alone.
-- Guarantees  Never drops a pending delivery. O(1).

if #redis.call('XPENDING', KEYS[1], 'workers', '-', '+', 1, ARGV[1]) > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'workers', ARGV[1])
return 1
