//! The header `Prefer` (RFC 7240), of which `wait` is understood.

use axum::http::{HeaderMap, HeaderName};
use std::time::Duration;

/// The header of requests.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The header of answers.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Longest wait.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long the client prefers to wait for the completion; at most 60 s. A preference that cannot be read is ignored, as RFC 7240
/// asks.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut waits = preferences.flat_map(|value| value.split(',')).filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        value.trim().trim_matches('"').parse::<u64>().ok()
    });
    waits.next().filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_wait_counts_and_is_bounded() {
        let wait_of = |value: &str| wait(&[(PREFER, value.parse().unwrap())].into_iter().collect());
        assert_eq!(wait_of("wait=10"), Some(Duration::from_secs(10)));
        assert_eq!(wait_of("respond-async, Wait = \"5\"; foo"), Some(Duration::from_secs(5)));
        assert_eq!(wait_of("wait=999999"), Some(MAX_WAIT));
        for ignored in ["wait=", "wait=-1", "wait=x", "wait", "waiting=3", "wait=0"] {
            assert_eq!(wait_of(ignored), None, "{ignored}");
        }
    }
}
