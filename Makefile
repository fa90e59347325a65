# The usual commands. Works with GNU make from 3.81 (macOS) on.

CARGO ?= cargo
# Flags of `make demo`, such as DEMO_FLAGS=--once
DEMO_FLAGS ?=
# DENY=required: `make test` fails if cargo-deny or its advisory database is not available. Otherwise it only reports that.
DENY ?= optional

# make soak: duration of the faults in seconds, seed (none: random), and jobs per second
SECONDS ?= 300
SEED ?=
RATE ?= 120

.PHONY: help setup demo check test soak bench bench-trouble bench-backfill bench-jobs bench-gateway

help:
	@echo "make setup   install redis-server and cargo if they are missing (may ask for your password)"
	@echo "make demo    run a demonstration on this machine; DEMO_FLAGS=--once ends with a summary"
	@echo "make check   check format, lints and unit tests: for use after each edit"
	@echo "make test    check everything that a change must pass: format, lints, docs, licences, tests"
	@echo "make soak    run jobs under continuous faults: SECONDS=1800 SEED=7 RATE=120; make test includes a short run"
	@echo "make bench   run the benchmarks"
	@echo "make bench-trouble   benchmark degraded conditions: a flood, a million waiting jobs, an outage (half an hour)"
	@echo "make bench-backfill   benchmark a backfill of 200,000 messy rows that is killed twice"
	@echo "make bench-jobs   benchmark finding and cancelling jobs among a million"
	@echo "make bench-gateway   benchmark the gateway with wrk, beside plain Redis (needs wrk, redis-tools and python3-redis)"

setup:
	@sh .ci/setup.sh

demo: setup
	@echo "demo: compiling xco-worker. The first time this takes some minutes, without a line of output; later it takes seconds."
	@echo "demo: then it starts a Redis, a simulated XCO and a worker on this machine, and plays seven short scenes: signups, codes,"
	@echo "demo: a caller's limit, a 429, an outage, mistakes, a backfill. Then it goes on, for you to look around, until Ctrl-C."
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
	$(CARGO) bench --locked --bench degraded

bench-backfill: setup
	$(CARGO) bench --locked --bench backfill

bench-jobs: setup
	$(CARGO) bench --locked --bench jobs

bench-gateway: setup
	sh benches/gateway/run.sh
