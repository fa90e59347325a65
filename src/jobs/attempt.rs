//! An attempt that did not end its job with success, as the job's state remembers it.

use crate::contract::ErrorKind;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Maximum number of attempts that a state remembers: the latest.
pub const MOST_ATTEMPTS: usize = 8;

/// An attempt that did not end its job with success. It holds no personal data. As JSON it is a list of four, because Redis has
/// one for each attempt of each waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", from = "Stored")]
pub struct Attempt {
    /// When the call began, in milliseconds on Redis's clock.
    pub at_ms: u64,
    /// How long the call took, in milliseconds.
    pub took_ms: u64,
    /// The status of XCO's answer; `None` without an answer.
    pub http_status: Option<u16>,
    /// Why it did not succeed; `None` for a step that succeeded before the job's last step.
    pub error: Option<ErrorKind>,
}

type Stored = (u64, u64, Option<u16>, Option<ErrorKind>);

impl From<Stored> for Attempt {
    fn from((at_ms, took_ms, http_status, error): Stored) -> Self {
        Self { at_ms, took_ms, http_status, error }
    }
}

impl From<Attempt> for Stored {
    fn from(attempt: Attempt) -> Self {
        (attempt.at_ms, attempt.took_ms, attempt.http_status, attempt.error)
    }
}

/// Appends an attempt, and forgets the oldest beyond [`MOST_ATTEMPTS`].
pub(super) fn remember(attempts: &mut Vec<Attempt>, attempt: Attempt) {
    attempts.push(attempt);
    attempts.drain(..attempts.len().saturating_sub(MOST_ATTEMPTS));
}

/// Reads the attempts that this version knows. The rest of a state must not depend on what another version remembers.
pub(super) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Attempt>, D::Error> {
    let attempts = match Value::deserialize(deserializer)? {
        Value::Array(attempts) => attempts,
        _ => Vec::new(),
    };
    let first = attempts.len().saturating_sub(MOST_ATTEMPTS);
    Ok(attempts.into_iter().skip(first).filter_map(|attempt| serde_json::from_value(attempt).ok()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        contract::{JobError, Lane},
        jobs::{JobState, NextStep, fresh},
    };

    #[test]
    fn a_state_remembers_the_latest_attempts() {
        let mut state = fresh(Lane::Bulk, 5);
        let retry = |kind| NextStep::Retry { error: JobError::plain(kind, "secret", true), delay_ms: 9 };
        state.remember(retry(ErrorKind::Timeout).attempt(10, 3, None));
        state.remember(NextStep::Defer { retry_after: None }.attempt(20, 4, Some(429)));
        state.remember(NextStep::Continue.attempt(30, 5, Some(200)));
        state.remember(NextStep::Release.attempt(40, 6, None));
        let expected = r#"{"o":"bulk:0:5-0","v":[[10,3,null,"timeout"],[20,4,429,"rate_limited"],[30,5,200,null]]}"#;
        assert_eq!(state.to_json(), expected);
        assert_eq!(JobState::from_json(expected.as_bytes()).unwrap(), state);
        for at_ms in 100..120 {
            state.remember(retry(ErrorKind::Upstream).attempt(at_ms, 1, Some(500)));
        }
        assert_eq!((state.history.len(), state.history[0].at_ms), (MOST_ATTEMPTS, 112));
        let letter = state.of_a_letter();
        assert_eq!((letter.history.len(), letter.replayed().history.len()), (MOST_ATTEMPTS, 0));
    }

    #[test]
    fn what_another_version_remembers_does_not_spoil_a_state() {
        for (history, count) in [(r#"[[1,2,3,"new_kind"],[1,2,3,"upstream"],7]"#, 1), ("7", 0), ("[]", 0)] {
            let state = JobState::from_json(format!(r#"{{"o":"bulk:0:5-0","v":{history}}}"#).as_bytes()).unwrap();
            assert_eq!(state.history.len(), count, "{history}");
        }
        let many = vec![r#"[1,2,3,"upstream"]"#; 1_000].join(",");
        let state = JobState::from_json(format!(r#"{{"o":"bulk:0:5-0","v":[{many}]}}"#).as_bytes()).unwrap();
        assert_eq!(state.history.len(), MOST_ATTEMPTS);
    }
}
