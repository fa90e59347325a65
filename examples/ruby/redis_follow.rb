# Follows all completions as a member of a group. Usage: ruby redis_follow.rb GROUP MEMBER [HOW_MANY]
require "redis"
$stdout.sync = true

group, member, how_many = ARGV + ["shop", "member-1", "Infinity"][ARGV.size..]
left = how_many == "Infinity" ? Float::INFINITY : how_many.to_i
redis = Redis.new(url: ENV.fetch("REDIS_URL", "redis://127.0.0.1:6379"))
from = (0...ENV.fetch("XCO_PARTITIONS", "1").to_i).to_h do |partition|
  stream = "{#{ENV.fetch("XCO_NAMESPACE", "xco")}:#{partition}}:completions"
  begin
    redis.xgroup(:create, stream, group, "0", mkstream: true)
  rescue Redis::CommandError => error
    raise unless error.message.start_with?("BUSYGROUP") # The group exists.
  end
  [stream, "0"] # First what this member has read and not acknowledged.
end

while left.positive?
  read = redis.xreadgroup(group, member, from.keys, from.values, count: [100, left].min, block: 5000)
  from = from.to_h { |stream, id| [stream, read.fetch(stream, []).empty? ? ">" : id] } # Then what no member has read.
  read.each do |stream, entries|
    entries.each do |id, fields|
      unless fields.nil? || fields.empty? # Otherwise it was trimmed before it was acknowledged.
        puts "#{fields["id"]} #{fields["status"]}" # May come twice: make your own work safe to repeat.
        left -= 1
      end
      redis.xack(stream, group, id) # Last: what is not acknowledged comes again.
    end
  end
end
