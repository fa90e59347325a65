#!/bin/sh
# Builds and runs the benchmarks: `make bench`, or sh benches/run.sh [--no-peers] [flags of benches/worker]
set -eu
cd "$(dirname "$0")/.."

peers=yes
if [ "${1:-}" = "--no-peers" ]; then
    peers=no
    shift
fi
cargo=${CARGO:-cargo}

"$cargo" bench --locked --bench worker -- "$@"
if [ "$peers" = yes ]; then
    # Beside the worker's own build: much of it is compiled for both.
    "$cargo" run --release --locked --quiet --manifest-path benches/peers/Cargo.toml --target-dir target/peers
fi
