//! The XCO client against the simulator, over real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod calls;
#[path = "../integration/support/certificates.rs"]
mod certificates;
mod control;
mod doubts;
mod forms;
mod gate;
mod refusals;
mod secure;
mod stub;
mod support;
mod tokens;
