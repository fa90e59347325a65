#!/bin/sh
# Draws docs/demo.svg, the picture in the README: what a terminal shows while the tool is at work. Run it from anywhere, with
# `sh docs/recording.sh`; it takes half a minute.
#
# It starts a Redis, a simulated XCO and a worker of its own, types a few commands, and leaves nothing behind. Needs
# redis-server, redis-cli, curl, awk and the binary (target/demo/xco-worker, target/debug/xco-worker, or XCO_WORKER=path).
# Colours need `script` of util-linux; without it the picture has none.
set -eu
cd "$(dirname "$0")/.."
for binary in "${XCO_WORKER:-}" target/demo/xco-worker target/debug/xco-worker; do
    [ -n "$binary" ] && [ -x "$binary" ] && break
done
[ -x "$binary" ] || { echo "no binary: run \`cargo build\` first" >&2; exit 1; }
binary=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary")

columns=112
folder=$(mktemp -d)
port=7823
xco=http://127.0.0.1:7824
worker=
trap 'kill $worker $sandbox $redis 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT INT TERM

export XCO_WORKER__REDIS__URL=redis://127.0.0.1:$port
export XCO_WORKER__XCO__BASE_URL=$xco XCO_WORKER__XCO__TOKEN_URL=$xco/oauth/token
export XCO_WORKER__XCO__CLIENT_ID=sandbox XCO_WORKER__XCO__CLIENT_SECRET=sandbox
export XCO_WORKER__XCO__MERCHANT_ID=6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11
export XCO_WORKER__RETRY__BASE=200ms XCO_WORKER__RETRY__CREATE_USER__MAX_ATTEMPTS=2
export XCO_WORKER__LIMITS__CALLER__RATE=2/s XCO_WORKER__HTTP__LISTEN=off
export XCO_OPERATOR=ada HOSTNAME=shop-1 TERM=xterm-256color
unset NO_COLOR || true

redis-server --port $port --save '' --appendonly no --dir "$folder" >"$folder/redis.log" & redis=$!
"$binary" sandbox --listen 127.0.0.1:7824 --latency 300ms..500ms >"$folder/sandbox.log" 2>&1 & sandbox=$!
sleep 1
"$binary" run >"$folder/worker.log" 2>&1 & worker=$!
sleep 2

ln -s "$binary" "$folder/xco-worker"
PATH=$folder:$PATH
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    terminal() { script -qec "stty cols $columns 2>/dev/null; $1" /dev/null </dev/null; }
else
    terminal() { sh -c "$1" </dev/null; }
fi
# What is typed, and what the tool prints.
type_() {
    printf '\033[1m$ %s\033[0m\n' "$1"
    terminal "$1" || true
    echo
}
jobs() { sed "s/ job \(.*\)/ job '\1'/" | redis-cli -p $port >/dev/null; }

{
    type_ "xco-worker enqueue --type CheckUser --id signup-ada --caller-id 203.0.113.9 --email ada@example.com --wait 10s"
    # Signups arrive, one of them from a caller that asks too often, and XCO answers one creation in three with 500.
    curl -sS -X POST "$xco/_sandbox/faults" -H 'content-type: application/json' \
        -d '{"route":"create","status":500,"probability":0.3,"seed":7}' >/dev/null
    awk 'BEGIN {
        for (i = 1; i <= 40; i++)
            printf "XADD {xco:0}:jobs:interactive * job {\"id\":\"check-%d\",\"type\":\"CheckUser\",\"caller_id\":\"192.0.2.7\",\"args\":{\"email\":\"d%d@example.com\"}}\n", i, i
        for (i = 1; i <= 1500; i++)
            printf "XADD {xco:0}:jobs:interactive * job {\"id\":\"signup-%d\",\"type\":\"CreateUser\",\"batch\":\"spring\",\"args\":{\"customer_reference\":\"C%05d\",\"user\":{\"email\":\"c%d@example.com\"}}}\n", i, i, i
    }' | jobs
    sleep 7
    type_ "xco-worker status"
    type_ "xco-worker why check-39"
    type_ "xco-worker dead list --by type,error.kind,http_status"
    type_ "xco-worker dead replay --error upstream --dry-run"
} >"$folder/screen"

LC_ALL=C awk -v columns=$columns -f docs/terminal-svg.awk "$folder/screen" >docs/demo.svg
echo "docs/demo.svg: $(wc -l <docs/demo.svg) lines"
