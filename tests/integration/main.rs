//! Tests through the public interface: a real Redis, the sandbox over real HTTP, and jobs as a merchant enqueues them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod admission;
mod adrift;
mod arithmetic;
mod backfill;
mod backfill_lost;
mod bucket_state;
mod chains;
mod commands;
mod connections;
mod control;
mod dead;
mod dead_replay;
mod deadlines;
mod doubt;
mod duplicates;
mod flows;
mod learning;
mod limits;
mod malformed;
mod overload;
mod partial_failure;
mod places;
mod preflight;
mod privacy;
mod promises;
mod quota;
mod redis_users;
mod refused;
mod retries;
mod secure;
mod subscriber;
mod support;
mod trimming;
mod weather;
mod window;
