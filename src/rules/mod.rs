//! Operators' rules: which jobs are paused and which are cancelled. Pure: takes a job and the time, returns a
//! [`Decision`].
//!
//! | file | |
//! |---|---|
//! | `rule` | one rule, and its form in Redis |
//! | `rule_set` | all rules, and the decision about one job |
//!
//! A rule selects jobs by their properties. A cancellation applies to jobs enqueued before it was ordered, a pause to
//! all jobs.

mod rule;
mod rule_set;

pub use rule::{Rule, RuleAction, RuleOrigin, Selector};
pub use rule_set::{Decision, RuleSet, Subject};

/// Maximum number of rules in force at once.
pub const MAX_RULES: usize = 10_000;

/// A pause without an end delays a job until this time, milliseconds: later than any `run_at` or deadline, and exact as a score.
pub const NO_END_MS: u64 = 1 << 52;
