#!/usr/bin/env bash
# Compares the public output of two binaries: `tests/public_output/compare.sh FORMER NEW`, about a minute for each.
#
# Both play the same scenes against a Redis and a simulated XCO of their own. Each command's `--json` output and exit code, and
# every Redis key with its type and content, go into a record. What changes from run to run (times, entry ids, ports, process
# names) is replaced by a word. Exit 0: the records are equal. Exit 1: they differ, and the difference is printed.
# Needs bash, redis-server, redis-cli, curl and sed.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 FORMER NEW" >&2; exit 2; }
for binary in "$1" "$2"; do
    [ -x "$binary" ] || { echo "$binary is no program" >&2; exit 2; }
done
former=$(realpath "$1") new=$(realpath "$2")
folder=$(mktemp -d)
port=$((20000 + RANDOM % 20000))
redis='' sandbox='' worker=''
stop_all() {
    for process in $worker $sandbox $redis; do kill "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap 'stop_all; [ -z "${KEEP:-}" ] || cp "$folder"/*.{raw,log,txt} "$KEEP" 2>/dev/null || true; rm -rf "$folder"' EXIT

export XCO_WORKER__REDIS__URL=redis://127.0.0.1:$port
xco=http://127.0.0.1:$((port + 1))
export XCO_WORKER__XCO__BASE_URL=$xco XCO_WORKER__XCO__TOKEN_URL=$xco/oauth/token
export XCO_WORKER__XCO__CLIENT_ID=sandbox XCO_WORKER__XCO__CLIENT_SECRET=sandbox
export XCO_WORKER__XCO__MERCHANT_ID=6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11
export XCO_WORKER__RETRY__BASE=100ms XCO_WORKER__RETRY__CREATE_USER__MAX_ATTEMPTS=2
export XCO_WORKER__HTTP__LISTEN=off XCO_WORKER__WORKER__BREAKER=false XCO_WORKER__WORKER__CONCURRENCY=1 XCO_OPERATOR=ada
export NO_COLOR=1 TZ=UTC

cli() { redis-cli -p "$port" "$@"; }
fault() { curl -sS -o /dev/null -X "${3:-POST}" "$xco/_sandbox/$1" -H 'content-type: application/json' -d "$2"; }

# Runs one command of the binary and records its standard output and exit code.
record() {
    local code=0
    printf '\n$ xco-worker %s\n' "$*"
    "$binary" "$@" <"${input:-/dev/null}" 2>"$folder/stderr" || code=$?
    printf '(exit %s)\n' "$code"
}

# Sorts JSON lines by their `id`, because jobs that run side by side end in any order.
sort_lines() { sed 's/^{.*"id":"\([^"]*\)".*/\1\t&/' | LC_ALL=C sort -s -k1,1 | sed 's/^[^{]*\t//'; }

# Waits until a command's output equals a value, at most 30 s.
wait_for() {
    local wanted=$1
    shift
    for _ in $(seq 300); do
        [ "$("$@")" = "$wanted" ] && return
        sleep 0.1
    done
    echo "$* is $("$@"), not $wanted" >&2
    exit 1
}

# Every key: name, type, content.
dump_redis() {
    cli --raw --scan | LC_ALL=C sort | while read -r key; do
        local type
        type=$(cli --raw type "$key")
        printf '\n# %s (%s)\n' "$key" "$type"
        case $type in
            string) cli --raw get "$key" ;;
            hash) cli --raw hgetall "$key" | paste -d' ' - - | LC_ALL=C sort ;;
            set) cli --raw smembers "$key" | LC_ALL=C sort ;;
            zset) cli --raw zrange "$key" 0 -1 withscores | paste -d' ' - - | LC_ALL=C sort ;;
            list) cli --raw lrange "$key" 0 -1 ;;
            # Jobs that run side by side end in any order.
            stream) case $key in
                *:completions) cli --raw xrange "$key" - + | grep '^{' | LC_ALL=C sort ;;
                *) cli --raw xrange "$key" - + ;;
                esac
                cli --raw xinfo groups "$key" | paste -d' ' - - | { grep -E '^(name|pending) ' || true; } ;;
        esac
    done
}

# What changes from run to run becomes a word.
normalise() {
    sed -E \
        -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/TIME/g' \
        -e 's/\b1[0-9]{15}\b/MICROSECONDS/g' \
        -e 's/\b1[0-9]{12}-[0-9]+/ENTRY/g' -e 's/\b1[0-9]{12}(\.[0-9]+)?\b/MILLISECONDS/g' \
        -e 's/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/UUID/g' \
        -e "s/:($port|$((port + 1)))\\b/:PORT/g" \
        -e "s/\"(host|pid|process)\":(\"[^\"]*\"|[0-9]+)/\"\\1\":\"HERE\"/g" -e "s/([a-z_][-a-z0-9_]*@)?$(hostname)[-.:0-9a-z]*/HOST/g" \
        -e 's/"([a-z_]*(_ms|_s|age|elapsed|bytes|per_second|rate|uptime|memory|oldest)[a-z_0-9]*)":-?[0-9.]+/"\1":N/g' \
        -e 's/in [0-9]+ ms/in N ms/g' -e 's/\b1[0-9]{9}\.[0-9]+/SECONDS/g' \
        -e 's/"timings_ms":\{[^}]*\}/"timings_ms":N/g' \
        -e 's/:replay:[0-9]+/:replay:RUN/g' -e "s#$folder#FOLDER#g" -e 's#"version":"[^"]*"#"version":"V"#g' -e 's/([0-9a-f]{40}|[0-9a-f]{64})/HASH/g'
}

scenes() {
    local chain='{"type":"CheckUser","id":"chain-1","caller_id":"203.0.113.8","args":{"email":"eve@example.com"},"next":{"absent":{"type":"CreateUser","args":{"customer_reference":"C2","user":{"email":"eve@example.com"}}}}}'
    local bad_gender='{"type":"CreateUser","id":"bad-1","args":{"customer_reference":"C9","user":{"email":"x@example.com","gender":"unknown"}}}'
    input=$folder/jobs.ndjson
    cat >"$input" <<'JOBS'
{"type":"CheckUser","id":"check-1","batch":"first","caller_id":"203.0.113.9","args":{"email":"ada@example.com"},"meta":{"session":"s"}}
{"type":"CreateUser","id":"create-1","batch":"first","args":{"customer_reference":"C1","user":{"email":"bob@example.com","first_name":"Bob"}}}
{"type":"CheckUser","id":"wrong-1","caller_id":"203.0.113.8","args":{"email":"nobody"}}
{"type":"StartOtp","id":"otp-1","caller_id":"203.0.113.8","args":{"email":"bob@example.com"}}
JOBS
    record enqueue --file - --json
    input=/dev/null
    record enqueue --type CheckUser --id single-1 --caller-id 203.0.113.7 --email joe@example.com --json
    record enqueue --type CheckUser --id later-1 --caller-id 203.0.113.7 --email joe@example.com --run-at 2100-01-01T00:00:00Z --json
    record enqueue --type Nothing --json
    record pause --lane bulk --json
    record pause --type FinalizeConsent --for 10m --json
    record resume --type VerifyOtp --json
    record why check-1 --json
    record why not-there --json
    record status --json
    printf '\n== Redis before a worker runs\n'
    dump_redis

    fault faults '{"route":"create","status":500,"times":100}'
    cli xadd '{xco:0}:jobs:interactive' '*' job 'no JSON' >/dev/null
    "$binary" run >"$folder/worker.log" 2>&1 &
    worker=$!
    wait_for 5 cli xlen '{xco:0}:completions'
    cli xadd '{xco:0}:jobs:interactive' '*' job "$chain" >/dev/null
    wait_for 7 cli xlen '{xco:0}:completions'
    fault faults '' DELETE
    cli xadd '{xco:0}:jobs:interactive' '*' job "$bad_gender" >/dev/null
    wait_for 8 cli xlen '{xco:0}:completions'
    record completions --from beginning --count 8 --json | sort_lines
    record completions --from beginning --id create-1 --count 1 --json
    record why create-1 --json
    record why later-1 --json
    record dead list --json
    record dead list --by type,error.kind --json
    record dead list --error upstream --limit 1 --json
    record dead show create-1 --json
    record dead export --all --json
    record dead replay --all --dry-run --json
    record dead replay --error upstream --yes --wait 20s --json
    record dead replay create-1 --dry-run --json
    record dead discard --all --dry-run --json
    record dead discard --error validation --yes --json
    record dead list --error upstrem --json
    record cancel later-1 --json
    record cancel not-there --json
    record cancel --batch first --json
    record resume --lane bulk --json
    record resume --all --json
    record enqueue --type CheckUser --id check-1 --caller-id 203.0.113.7 --email ada@example.com --json
    record enqueue --type CheckUser --id waited-1 --caller-id 203.0.113.7 --email ada@example.com --wait 10s --json
    printf 'id,email\nr1,one@example.com\nr2,nobody\nr3,three@example.com\n' >"$folder/rows.csv"
    (cd "$folder" && record backfill rows.csv --map customer_reference=id --dry-run --json)
    (cd "$folder" && record backfill rows.csv --map customer_reference=id --batch rows --json)
    for file in "$folder"/rows*.csv; do
        printf '\n== %s\n' "$(basename "$file")"
        cat "$file"
    done
    record status --json
    record audit --json
    kill "$worker"
    wait "$worker" || true
    worker=''
    record doctor --json
    printf '\n== Redis at the end\n'
    dump_redis
}

play() {
    redis-server --port "$port" --save '' --appendonly no --dir "$folder" >/dev/null &
    redis=$!
    wait_for PONG cli ping
    "$binary" sandbox --listen "127.0.0.1:$((port + 1))" --latency 2ms --seed 1 >"$folder/sandbox.log" 2>&1 &
    sandbox=$!
    for _ in $(seq 100); do
        curl -sS -o /dev/null "$xco/_sandbox/state" 2>/dev/null && break
        sleep 0.1
    done
    scenes
    stop_all
    redis='' sandbox=''
    rm -f "$folder"/rows*
}

binary=$former
play >"$folder/former.raw"
binary=$new
play >"$folder/new.raw"
normalise <"$folder/former.raw" >"$folder/former.txt"
normalise <"$folder/new.raw" >"$folder/new.txt"
if diff -u "$folder/former.txt" "$folder/new.txt"; then
    echo "equal: $(grep -c '^\$ ' "$folder/new.txt") commands, $(grep -c '^# ' "$folder/new.txt") Redis keys"
else

    exit 1
fi
