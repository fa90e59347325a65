//! Attempts of a job, for people.

use crate::operations::{PastAttempt, age};

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
    use crate::contract::ErrorKind;

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
