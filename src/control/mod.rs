//! Operators' rules: which jobs are paused and which are cancelled. Pure: takes a job and the time, returns a
//! [`Decision`].
//!
//! | file | |
//! |---|---|
//! | `rule` | one rule, and its form in Redis |
//! | `rules` | all rules, and the decision about one job |
//!
//! A rule selects jobs by their properties. A cancellation applies to jobs enqueued before it was ordered, a pause to
//! all jobs.

mod rule;
mod rules;

pub use rule::{Order, Rule, Selector, Verb};
pub use rules::{Decision, Rules, Subject};

/// Maximum number of rules in force at once.
pub const MAX_RULES: usize = 10_000;
