#!/bin/sh
# Measures the gateway under load by public generators: sh benches/gateway/run.sh
#
# Needs wrk, redis-benchmark, redis-server, curl and Python 3 with redis-py (Debian: wrk redis-tools redis-server curl
# python3-redis), and 12,000 open files (`ulimit -n`). Figures to compare stand beside each other in one run.
set -eu
cd "$(dirname "$0")/../.."
here=$PWD/benches/gateway
${CARGO:-cargo} build --release --locked --quiet
program=$PWD/target/release/xco-worker
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$folder"' EXIT
cd "$folder"

redis-server --port 7700 --save "" --appendonly yes --dir "$folder" --logfile redis.log &
"$program" sandbox --listen 127.0.0.1:7801 --latency 0ms >sandbox.log 2>&1 &
cat >worker.toml <<'TOML'
[redis]
url = ["redis://127.0.0.1:7700"]
[xco]
base_url = "http://127.0.0.1:7801"
token_url = "http://127.0.0.1:7801/oauth/token"
client_id = "sandbox"
client_secret = "sandbox"
merchant_id = "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11"
[http]
listen = "127.0.0.1:7702"
[queue]
max_pending = 10000000
[gateway]
listen = "127.0.0.1:7703"
probe_listen = "127.0.0.1:7704"
TOML
# A token may send 500 requests a second, so a hundred tokens share the load.
cp worker.toml gateway.toml
tokens=
for number in $(seq 100); do
    token=$(openssl rand -hex 32)
    tokens=${tokens:+$tokens,}$token
    cat >>gateway.toml <<TOML
[[gateway.tokens]]
name = "t$number"
sha256 = "$(printf %s "$token" | sha256sum | cut -d' ' -f1)"
roles = ["enqueue", "read"]
TOML
done
"$program" --config gateway.toml gateway >gateway.log 2>&1 &
gateway=$!
until curl -sf http://127.0.0.1:7704/readyz >/dev/null; do sleep 0.1; done

submit() { # CONNECTIONS SECONDS PREFIX PREFERENCE
    wrk -t1 -c"$1" -d"$2s" -s "$here/submit.lua" http://127.0.0.1:7703 -- "$3" "$4" "$tokens" | grep requests/s
}
xadd() { # CONNECTIONS COMMANDS_AT_ONCE
    job='{"id":"x","type":"CheckUser","caller_id":"203.0.113.9","args":{"email":"customer-12345@example.com"}}'
    redis-benchmark -p 7700 -n 300000 -c "$1" -P "$2" -q XADD measured '*' job "$job" 2>/dev/null | tr '\r' '\n' | tail -1
    redis-cli -p 7700 del measured >/dev/null
}
for round in 1 2; do
    echo "jobs one by one over 64 connections, no worker:  $(submit 64 8 "a$round" '')"
    echo "XADD, 64 at a time on one connection:  $(xadd 1 64)"
    echo "XADD, one at a time on 64 connections:  $(xadd 64 1)"
done
redis-cli -p 7700 flushall >/dev/null
"$program" --config worker.toml run >worker.log 2>&1 &
until curl -sf http://127.0.0.1:7702/readyz >/dev/null; do sleep 0.1; done
for round in 1 2; do
    echo "Prefer: wait, one at a time:  $(submit 1 6 "b$round" wait=10)"
    echo "XADD and BLPOP, one at a time:  $("$python" "$here/wait_by_reply.py" 7700 2000 "$round")"
    echo "Prefer: wait, 64 at a time:  $(submit 64 6 "c$round" wait=10)"
done
echo "memory of the gateway: $(grep VmRSS /proc/$gateway/status)"
echo "idle connections:"
"$python" "$here/idle.py" 7703 10000 7704
echo "readers of completions, of which one does not read:"
GATEWAY=$gateway "$python" "$here/readers.py" 7703 "$tokens" 5000 20 7700 10
