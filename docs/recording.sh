#!/bin/sh
# Draws docs/demo.svg, the picture in the README: what a terminal shows while the tool is at work. Run it from anywhere, with
# `sh docs/recording.sh`; it takes half a minute.
#
# It starts a Redis, a simulated XCO and a worker of its own, types a few commands, and leaves nothing behind. What it
# needs: docs/scene.sh, and awk. Colours need `script` of util-linux; without it the picture has none.
set -eu
cd "$(dirname "$0")/.."
. docs/scene.sh
columns=112
export XCO_WORKER__RETRY__CREATE_USER__MAX_ATTEMPTS=2 XCO_WORKER__LIMITS__CALLER__RATE=2/s
export HOSTNAME=shop-1 TERM=xterm-256color
unset NO_COLOR || true
start_scene

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

{
    type_ "xco-worker enqueue --type CheckUser --id signup-ada --caller-id 203.0.113.9 --email ada@example.com --wait 10s"
    # Signups arrive, one of them from a caller that asks too often, and XCO answers one creation in three with 500.
    fault faults '{"route":"create","status":500,"probability":0.3,"seed":7}' >/dev/null
    awk 'BEGIN {
        for (i = 1; i <= 40; i++)
            printf "XADD {xco:0}:jobs:interactive * job {\"id\":\"check-%d\",\"type\":\"CheckUser\",\"caller_id\":\"192.0.2.7\",\"args\":{\"email\":\"d%d@example.com\"}}\n", i, i
        for (i = 1; i <= 1500; i++)
            printf "XADD {xco:0}:jobs:interactive * job {\"id\":\"signup-%d\",\"type\":\"CreateUser\",\"batch\":\"spring\",\"args\":{\"customer_reference\":\"C%05d\",\"user\":{\"email\":\"c%d@example.com\"}}}\n", i, i, i
    }' | add_jobs
    sleep 7
    type_ "xco-worker status"
    type_ "xco-worker why check-39"
    type_ "xco-worker dead list --by type,error.kind,http_status"
    type_ "xco-worker dead replay --error upstream --dry-run"
} >"$folder/screen"

LC_ALL=C awk -v columns=$columns -f docs/terminal-svg.awk "$folder/screen" >docs/demo.svg
echo "docs/demo.svg: $(wc -l <docs/demo.svg) lines"
