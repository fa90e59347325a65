#!/bin/sh
# An operator's night, run on this machine: `sh docs/operators-night.sh`, from the repository, about two minutes.
#
# It shows what an operator sees and does during a signup spike, an XCO that answers some calls with 500 and is then down, and a release that
# sends a wrong field. It starts its own Redis, simulated XCO and worker, and removes everything at the end. What it
# needs: docs/scene.sh.
set -eu
cd "$(dirname "$0")/.."
. docs/scene.sh
export XCO_WORKER__RETRY__CREATE_USER__MAX_ATTEMPTS=3
start_scene

# Prints a command and its output, and the exit code if it fails.
type_() {
    printf '\n$ xco-worker %s\n' "$*"
    "$binary" "$@" </dev/null 2>&1 || echo "(exit $?)"
}
tell() { printf '\n# %s\n' "$*"; }

tell "02:55. Three thousand signups in a few seconds, and XCO answers two creations in five with 500. Every 150th signup
# comes from a release that sends a gender XCO does not know."
fault faults '{"route":"create","status":500,"probability":0.4,"seed":7}'
awk 'BEGIN { for (i = 1; i <= 3000; i++)
    printf "XADD {xco:0}:jobs:interactive * job {\"id\":\"signup-%d\",\"type\":\"CreateUser\",\"batch\":\"spring\",\"args\":{\"customer_reference\":\"C%05d\",\"user\":{\"email\":\"c%d@example.com\"%s}}}\n",
        i, i, i, (i % 150 == 0 ? ",\"gender\":\"unknown\"" : "") }' |
    add_jobs
sleep 8
type_ status

tell "03:01. One customer called. Where is her signup?"
type_ why signup-2990

tell "XCO's team says: give us a moment. No more creations until it is well again; at the latest in ten minutes."
type_ pause --type CreateUser --for 10m
sleep 3
type_ status
type_ why signup-2990

tell "03:09. XCO is well again, they say. It is not: now it answers every call with 503. Nobody needs to do anything about that."
curl -sS -X DELETE "$xco/_sandbox/faults"
fault outage '{"on":true,"status":503}'
type_ resume --type CreateUser
sleep 12
type_ status
fault outage '{"on":false}'
sleep 45

tell "03:20. It is back, and the queue has drained. What is left?"
type_ status
type_ dead list --by type,error.kind,http_status
type_ dead list --error upstream --limit 2
type_ dead show "$("$binary" dead list --error upstream --limit 1 --json 2>/dev/null | sed 's/.*"id":"\([^"]*\)".*/\1/')"

tell "What would a replay do?"
type_ dead replay --all --dry-run

tell "First those that XCO failed; and wait to see what becomes of them."
type_ dead replay --error upstream --rate 50/s --yes --wait 2m

tell "Then those that the release got wrong: checked like any job, once corrected."
type_ dead replay --error invalid_job --set /args/user/gender=other --yes --wait 1m

tell "03:31. Anything left? And for the colleagues in the morning: who did what."
type_ dead list --by error.kind
type_ why signup-3000
type_ audit
