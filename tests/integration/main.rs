//! Tests through the public interface: a real Redis, the sandbox over real HTTP, jobs as a merchant enqueues them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod commands;
mod flows;
mod subscriber;
mod support;
