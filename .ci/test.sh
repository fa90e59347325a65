#!/bin/sh
# Everything a change must pass, one step after the other. The last line reports what passed and what was skipped, or which step
# failed. Set CARGO to run another cargo, DENY=required to fail where cargo-deny or its advisory database is missing.
set -eu
CARGO=${CARGO:-cargo}
out=$(mktemp)
status=$(mktemp)
# Tests that need a program which is not installed add a line.
SKIPPED_FILE=$(mktemp)
export SKIPPED_FILE
trap 'rm -f "$out" "$status" "$SKIPPED_FILE"' EXIT
passed=
skipped=

# step NAME COMMAND…: runs the command; its output stays in $out.
step() {
    name=$1
    shift
    echo "── $name: $*"
    { "$@" 2>&1 && echo 0 >"$status" || echo $? >"$status"; } | tee "$out"
    if [ "$(cat "$status")" != 0 ]; then
        echo "test: FAILED at $name${passed:+ · passed before it: $passed}"
        exit 1
    fi
    passed="${passed:+$passed, }$name"
}

# counted WORD: the sum of the numbers before WORD in the summaries of tests in $out.
counted() {
    grep -E '(Summary|test result:)' "$out" | grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'
}

# tests NAME COMMAND…: a step whose tests are counted.
tests() {
    step "$@"
    passed="$passed ($(counted passed))"
    for word in skipped ignored; do
        number=$(counted "$word")
        if [ "$number" != 0 ]; then skipped="${skipped:+$skipped, }$number $1 $word"; fi
    done
}

step format $CARGO fmt --check
step clippy $CARGO clippy --quiet --all-targets --locked -- -D warnings
step documentation env RUSTDOCFLAGS="-D warnings" $CARGO doc --quiet --no-deps --locked
before=$passed
step dependencies env CARGO="$CARGO" sh .ci/deny.sh
without=$(sed -n 's/^deny: //p' "$out")
if [ -n "$without" ]; then
    passed=$before
    skipped="dependencies ($without)"
fi
if $CARGO nextest --version >/dev/null 2>&1; then
    # Many tests wait for time to pass, so that one more than there are processors takes a third off.
    threads=$(($(getconf _NPROCESSORS_ONLN) + 1))
    tests tests $CARGO nextest run --locked --status-level slow --test-threads "$threads"
    tests doctests $CARGO test --quiet --doc --locked
else
    tests tests $CARGO test --quiet --locked
fi
sort -u "$SKIPPED_FILE" >"$out"
while read -r line; do
    skipped="${skipped:+$skipped, }$line"
done <"$out"
echo "test: passed: $passed · skipped: ${skipped:-nothing}"
