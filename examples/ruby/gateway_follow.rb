# Follows all completions over HTTP. Usage: ruby gateway_follow.rb CURSOR_FILE [HOW_MANY]
require "json"
require "net/http"
$stdout.sync = true

file, how_many = ARGV + ["cursor", nil][ARGV.size..]
left = how_many ? how_many.to_i : Float::INFINITY
uri = URI("#{ENV.fetch("GATEWAY_URL", "http://127.0.0.1:8080")}/v1/completions?from=beginning")
while left.positive?
  headers = { "Accept" => "text/event-stream" }
  headers["Authorization"] = "Bearer #{ENV["GATEWAY_TOKEN"]}" if ENV["GATEWAY_TOKEN"]
  headers["Last-Event-ID"] = File.read(file) if File.exist?(file) # Goes on after it; otherwise from the beginning.
  text = +""
  begin
    # A comment comes every 15 s, so 40 s of silence mean that the connection is lost.
    Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https", read_timeout: 40) do |http|
      http.request_get(uri.request_uri, headers) do |response|
        response.value # Raises an error unless the answer is 200.
        response.read_body do |chunk|
          text << chunk
          while (block = text.slice!(/\A.*?\n\n/m)) # An event ends with an empty line.
            event = block.scan(/^(\w+): ?(.*)$/).to_h
            warn block if event["event"] && event["event"] != "completion" # gap: completions were missed.
            next unless event["event"] == "completion"

            completion = JSON.parse(event["data"])
            puts "#{completion["id"]} #{completion["status"]}"
            File.write(file, event["id"]) # After the work: what is not noted comes again.
            exit if (left -= 1) <= 0
          end
        end
      end
    end
  rescue SystemCallError, IOError, Timeout::Error, Net::ProtocolError => error
    warn error.message
  end
  sleep 2
end
