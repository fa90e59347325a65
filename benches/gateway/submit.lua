-- Jobs for wrk, one a request, each with an id of its own. Arguments: prefix of the ids, value of `Prefer` or '', tokens.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local prefix, preference
local tokens, sent = {}, 0

function init(arguments)
  prefix, preference = arguments[1], arguments[2] ~= "" and arguments[2] or nil
  for token in string.gmatch(arguments[3], "[^,]+") do
    tokens[#tokens + 1] = token
  end
end

local JOB = '{"id":"%s-%d-%d","type":"CheckUser","caller_id":"203.0.113.%d","args":{"email":"customer-%d@example.com"}}'

function request()
  sent = sent + 1
  return wrk.format("POST", "/v1/jobs", {
    ["Content-Type"] = "application/json",
    ["Prefer"] = preference,
    ["Authorization"] = "Bearer " .. tokens[sent % #tokens + 1],
  }, string.format(JOB, prefix, number, sent, sent % 250, sent))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("requests/s %.0f p50 %.2f ms p99 %.2f ms, %d without a 2xx, %d broken\n",
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
