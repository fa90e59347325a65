#!/bin/sh
# Licences, sources and advisories of the dependencies. cargo-deny takes minutes to build, and its advisory database a
# network: where either cannot be had this says so and goes on, unless DENY=required.
set -eu
CARGO=${CARGO:-cargo}

skip() {
    echo "deny: $*" >&2
    if [ "${DENY:-optional}" = required ]; then exit 1; fi
}

if ! $CARGO deny --version >/dev/null 2>&1; then
    skip "not checked, cargo-deny is missing ($CARGO install cargo-deny --locked)"
    exit 0
fi
echo "$CARGO deny check licenses bans sources"
$CARGO deny --locked --log-level error check licenses bans sources
if $CARGO deny --locked --log-level off fetch db >/dev/null 2>&1; then
    echo "$CARGO deny check advisories"
    $CARGO deny --frozen --log-level error check advisories
else
    skip "advisories not checked, the database cannot be reached"
fi
