# Enqueues a job and waits for its end. Usage: ruby redis_wait.rb EMAIL [ID] [SECONDS]
require "json"
require "redis"
require "securerandom"
require "zlib"

email, id, seconds = ARGV + ["ada@example.com", "signup-#{SecureRandom.uuid}", "10"][ARGV.size..]
caller_id = "203.0.113.9" # In a shop: the browser's address.
# All jobs of one caller are in one partition.
partition = Zlib.crc32(caller_id) % ENV.fetch("XCO_PARTITIONS", "1").to_i
prefix = "{#{ENV.fetch("XCO_NAMESPACE", "xco")}:#{partition}}"

# BLPOP blocks its connection: one connection for each waiting request.
redis = Redis.new(url: ENV.fetch("REDIS_URL", "redis://127.0.0.1:6379"))
job = { id: id, type: "CheckUser", caller_id: caller_id, reply: true, args: { email: email } }
redis.xadd("#{prefix}:jobs:interactive", { job: JSON.generate(job) })
_, completion = redis.blpop("#{prefix}:reply:#{id}", timeout: seconds.to_i)

if completion
  puts completion # Look at its status, then at its outcome.
else
  # The job goes on. Run this again with the same id: a job with a known id is not done twice, and its reply comes again.
  # Or a program that follows the completions sees its end: redis_follow.rb.
  puts "#{id} has not ended after #{seconds} s"
end
