//! Workers are killed, and Redis and XCO are stalled, cut and emptied, while jobs are running. Still every accepted job
//! must end in exactly one completion, nothing is left over, and no call that is unsafe to repeat is repeated in doubt.
//!
//! Workers are real processes, Redis is a real server, the sandbox runs in the test over real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod backlogged_callers;
mod clock_steps;
mod connection_cuts;
mod crash_loop;
mod exhausted;
mod foreign_hands;
mod half_open;
mod half_open_proxy;
mod host;
mod http_versions;
mod idle_budget;
mod jobs;
mod kills;
mod leases;
mod ledger;
mod model;
mod overload;
mod oversized;
mod process;
mod process_life;
mod producer;
mod proxy;
mod redis_failover;
mod redis_faults;
mod redis_full;
mod redis_outages;
mod refused_429;
mod replies;
mod sabotage;
mod scripts;
mod sentinel;
mod settings;
mod shutdown;
mod soak;
mod stalls;
#[path = "../integration/support/mod.rs"]
mod support;
mod unreachable;
mod withdrawn;
