# Enqueues a job over HTTP and waits for its end. Usage: ruby gateway_wait.rb EMAIL [ID] [SECONDS]
require "json"
require "net/http"
require "securerandom"

email, id, seconds = ARGV + ["ada@example.com", "signup-#{SecureRandom.uuid}", "10"][ARGV.size..]
uri = URI("#{ENV.fetch("GATEWAY_URL", "http://127.0.0.1:8080")}/v1/jobs")
headers = {
  "Content-Type" => "application/json",
  "Prefer" => "wait=#{seconds}",
  "Idempotency-Key" => id # The request may be repeated: the job is done once.
}
headers["Authorization"] = "Bearer #{ENV["GATEWAY_TOKEN"]}" if ENV["GATEWAY_TOKEN"]
job = JSON.generate({ type: "CheckUser", caller_id: "203.0.113.9", args: { email: email } })

answer = nil
5.times do
  answer = Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https", read_timeout: seconds.to_i + 5) do |http|
    http.post(uri.path, job, headers)
  end
  break unless %w[429 503].include?(answer.code)

  sleep((answer["Retry-After"] || 1).to_i) # The lane is full, or Redis is away. The answer says how long it takes.
end
if answer.code == "202" # Not in time. The job goes on; wait_url, without the token, is also for the customer's browser.
  answer = Net::HTTP.get_response(URI(JSON.parse(answer.body)["wait_url"])) # After 25 s at most: {"status":"pending"}.
end
puts answer.body # The completion; of wait_url only status, outcome and error.kind. With 422: what is wrong.
exit answer.code == "200"
