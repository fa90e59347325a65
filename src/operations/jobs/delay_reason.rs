//! Why a job is delayed.

use crate::jobs::{JobState, Waiting};
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

    /// What a delayed job with that state waits for now.
    pub(super) fn now(state: Option<&JobState>) -> Self {
        if state.is_some_and(|state| state.cancelled) { Self::Cancelled } else { Self::of(state) }
    }

    /// Why a job with that state was delayed; that it was cancelled since does not change it.
    pub(in crate::operations) fn of(state: Option<&JobState>) -> Self {
        let Some(state) = state else { return Self::Slot };
        match state.waiting.map(|(waiting, _)| waiting) {
            Some(Waiting::Limit) => Self::Limit,
            Some(Waiting::Retry) => Self::Retry,
            Some(Waiting::Schedule) => Self::RunAt,
            Some(Waiting::Paused) if state.by_breaker => Self::Breaker,
            Some(Waiting::Paused) => Self::Paused,
            Some(Waiting::Slot) | None => Self::Slot,
        }
    }
}

impl fmt::Display for DelayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
