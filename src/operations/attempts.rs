//! The attempts that a job's state remembers, for reports.

use super::age;
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

/// One line for each attempt, such as `call at 10:04:31.123: 503 (upstream) after 120 ms, then waited 2 s`.
pub(super) fn attempt_lines(attempts: &[PastAttempt]) -> Vec<String> {
    attempts.iter().map(line).collect()
}

fn line(attempt: &PastAttempt) -> String {
    let PastAttempt { at, took_ms, http_status, error, waited_ms } = attempt;
    let answer = http_status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let error = error.map_or_else(String::new, |kind| format!(" ({})", kind.as_str()));
    let waited = waited_ms.map_or_else(String::new, |ms| format!(", then waited {}", age(ms)));
    format!("call at {at}: {answer}{error} after {}{waited}", age(*took_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_one_line() {
        let at = "2026-01-31T10:04:31.123Z".to_owned();
        let failed = PastAttempt {
            at,
            took_ms: 120,
            http_status: Some(503),
            error: Some(ErrorKind::Upstream),
            waited_ms: Some(2_000),
        };
        let cut = PastAttempt { http_status: None, error: Some(ErrorKind::Timeout), waited_ms: None, ..failed.clone() };
        assert_eq!(
            attempt_lines(&[failed, cut]),
            [
                "call at 2026-01-31T10:04:31.123Z: 503 (upstream) after 120 ms, then waited 2 s",
                "call at 2026-01-31T10:04:31.123Z: no answer (timeout) after 120 ms",
            ]
        );
    }
}
