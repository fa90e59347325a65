//! Why a job is delayed.

use serde::Serialize;
use std::fmt;

/// What a delayed job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DelayReason {
    /// The breaker of its next call.
    Breaker,
    /// Nothing: an operator cancelled it, and it ends now.
    Cancelled,
    /// Its turn in a limit.
    Limit,
    /// The end of an operator's pause.
    Paused,
    /// Its next attempt.
    Retry,
    /// The time that it names.
    RunAt,
    /// A free worker slot.
    Slot,
}

impl DelayReason {
    /// The name that its JSON is.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Cancelled => "cancelled",
            Self::Limit => "limit",
            Self::Paused => "paused",
            Self::Retry => "retry",
            Self::RunAt => "run_at",
            Self::Slot => "slot",
        }
    }
}

impl fmt::Display for DelayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
