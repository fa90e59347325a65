//! The attempts that a job's state remembers, for reports.

use crate::{
    contract::{ErrorKind, format_ms},
    jobs::JobState,
};
use serde::Serialize;

/// An attempt that did not end its job with success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PastAttempt {
    /// When the call began, in RFC 3339.
    pub at: String,
    /// How long the call took, in milliseconds.
    pub took_ms: u64,
    /// The status of XCO's answer; `None` without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// Why it did not succeed; `None` for a step that succeeded before the job's last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorKind>,
    /// Milliseconds until the next attempt began; `None` for the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
}

/// The latest attempts of a job, the oldest first.
pub(super) fn past_attempts(state: Option<&JobState>) -> Vec<PastAttempt> {
    let attempts = state.map_or(&[][..], |state| &state.history);
    let next = attempts.iter().skip(1).map(|next| Some(next.at_ms)).chain([None]);
    let past = attempts.iter().zip(next).map(|(attempt, next_ms)| PastAttempt {
        at: format_ms(attempt.at_ms),
        took_ms: attempt.took_ms,
        http_status: attempt.http_status,
        error: attempt.error,
        waited_ms: next_ms.map(|next_ms| next_ms.saturating_sub(attempt.at_ms.saturating_add(attempt.took_ms))),
    });
    past.collect()
}
