//! Operators' rules: which jobs are paused, and which are cancelled. Pure: a job and the time in, a [`Decision`] out.
//!
//! | file | |
//! |---|---|
//! | `rule` | one rule, and how it is written in Redis |
//! | `rules` | all of them, ready to be asked about one job |
//!
//! A rule selects jobs by what they are. A cancellation concerns the jobs enqueued up to the order, a pause all of them.

mod rule;
mod rules;

pub use rule::{Order, Rule, Selector, Verb};
pub use rules::{Decision, Rules, Subject};

/// The most rules in force at once.
pub const MAX_RULES: usize = 10_000;

/// A pause without an end delays a job until this time, milliseconds: later than any `run_at` or deadline, and exact as a score.
pub const NO_END_MS: u64 = 1 << 52;
