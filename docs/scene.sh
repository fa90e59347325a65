# Sets a scene for the scripts in this folder, which source it: a Redis, a simulated XCO and a worker of their own, on the
# ports 7813 and 7814, removed at the end. It needs redis-server, redis-cli, curl and the binary (target/demo/xco-worker,
# target/debug/xco-worker, or XCO_WORKER=path). It defines: binary, folder, port (of Redis), xco (its URL), and `fault`.
# Settings that are exported before `start_scene` hold for the worker.
for binary in "${XCO_WORKER:-}" target/demo/xco-worker target/debug/xco-worker; do
    [ -n "$binary" ] && [ -x "$binary" ] && break
done
[ -x "$binary" ] || { echo "no binary: run \`cargo build\` first" >&2; exit 1; }
binary=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary")

folder=$(mktemp -d)
port=7813
xco=http://127.0.0.1:7814
worker= sandbox= redis=
trap 'kill $worker $sandbox $redis 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT INT TERM

export XCO_WORKER__REDIS__URL=redis://127.0.0.1:$port
export XCO_WORKER__XCO__BASE_URL=$xco XCO_WORKER__XCO__TOKEN_URL=$xco/oauth/token
export XCO_WORKER__XCO__CLIENT_ID=sandbox XCO_WORKER__XCO__CLIENT_SECRET=sandbox
export XCO_WORKER__XCO__MERCHANT_ID=6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11
export XCO_WORKER__RETRY__BASE=200ms XCO_WORKER__HTTP__LISTEN=off XCO_OPERATOR=ada

start_scene() {
    redis-server --port $port --save '' --appendonly no --dir "$folder" >"$folder/redis.log" & redis=$!
    "$binary" sandbox --listen "${xco#http://}" --latency 300ms..500ms >"$folder/sandbox.log" 2>&1 & sandbox=$!
    sleep 1
    "$binary" run >"$folder/worker.log" 2>&1 & worker=$!
    sleep 2
}

# Orders something of the simulated XCO: its path below /_sandbox/, and a JSON body.
fault() { curl -sS -X POST "$xco/_sandbox/$1" -H 'content-type: application/json' -d "$2"; }

# Reads `XADD … job JSON` lines and runs them.
add_jobs() { sed "s/ job \(.*\)/ job '\1'/" | redis-cli -p $port >/dev/null; }
