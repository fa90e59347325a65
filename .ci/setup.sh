#!/bin/sh
# What building and trying need beyond this repository: cargo, a C compiler, redis-server. Installs redis-server where
# it is missing; says what it does, and does nothing where nothing is missing. Neither demo nor tests use a Redis that
# runs as a service: they start their own.
set -eu

say() { echo "setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

if ! have cargo; then
    say "cargo is missing: install Rust from https://rustup.rs, then come back"
    exit 1
fi
if ! have cc && ! have gcc && ! have clang; then
    say "a C compiler is missing (for TLS): apt-get install gcc libc6-dev, or xcode-select --install"
    exit 1
fi
if have redis-server || have valkey-server; then
    exit 0
fi

if have apt-get; then
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        if ! have sudo; then
            say "redis-server is missing, and so is sudo: as root, run apt-get install redis-server"
            exit 1
        fi
        as_root=sudo
    fi
    say "redis-server is missing: installing it with apt-get"
    # An index that is out of date, or partly unreachable, may do all the same.
    $as_root apt-get update -q >&2 || say "apt-get update failed; trying with what is known"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends redis-server >&2
elif have brew; then
    say "redis-server is missing: installing it with Homebrew"
    brew install redis >&2
else
    say "redis-server (6.2 or newer) is missing, and neither apt-get nor brew is there: install it, then come back"
    exit 1
fi

if ! have redis-server; then
    say "redis-server is installed but not in PATH"
    exit 1
fi
say "$(redis-server --version)"
