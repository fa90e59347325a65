# The usual commands. Works with GNU make from 3.81 (macOS) on.

CARGO ?= cargo
# Flags of `make demo`, such as DEMO_FLAGS=--once
DEMO_FLAGS ?=
# DENY=required: `make test` fails where cargo-deny or its advisory database cannot be had, instead of saying so.
DENY ?= optional

# make soak: for how long faults strike, from which seed (none: drawn), and how many jobs a second
SECONDS ?= 300
SEED ?=
RATE ?= 120

.PHONY: help setup demo check test soak bench bench-trouble bench-backfill

help:
	@echo "make setup   see to it that redis-server and cargo are there (may ask for your password)"
	@echo "make demo    see it work on this machine; DEMO_FLAGS=--once ends with a summary"
	@echo "make check   format, lints and unit tests: the inner loop"
	@echo "make test    everything a change must pass: format, lints, docs, licences, tests"
	@echo "make soak    jobs and faults without end: SECONDS=1800 SEED=7 RATE=120; make test holds a short one"
	@echo "make bench   measure it"
	@echo "make bench-trouble   measure it in trouble: a flood, a million waiting, an outage (half an hour)"
	@echo "make bench-backfill   measure a backfill of 200,000 messy rows, killed twice"

setup:
	@sh .ci/setup.sh

demo: setup
	@echo "demo: building xco-worker; the first time this takes some minutes"
	$(CARGO) build --quiet --profile demo --locked
	./target/demo/xco-worker demo $(DEMO_FLAGS)

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets --locked -- -D warnings
	$(CARGO) test --quiet --lib --locked

test: setup
	@CARGO="$(CARGO)" DENY="$(DENY)" sh .ci/test.sh

soak: setup
	SOAK_SECONDS=$(SECONDS) SOAK_SEED=$(SEED) SOAK_RATE=$(RATE) $(CARGO) test --locked --test faults soak::soak -- --exact --nocapture

bench: setup
	sh benches/run.sh

bench-trouble: setup
	$(CARGO) bench --locked --bench trouble

bench-backfill: setup
	$(CARGO) bench --locked --bench backfill
