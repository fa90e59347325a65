//! Checks that admissions keep to the limits, by Redis's own clock.
//!
//! A completion's `started_at` is the time of its job's first admission. Faults on a call's way to XCO do not affect
//! it, so this check needs no allowance, while [`super::limits`] must allow for delays by faults. It sees fewer calls
//! than were made, though: later calls of a job, and the call of an admission that was lost with its worker, are not in
//! any completion. Each of the two checks finds errors that the other cannot.

use super::{calls::limit_of, limits::Explained};
use serde_json::Value;
use std::collections::HashMap;

/// Times are reported in whole milliseconds.
const ROUNDING_US: u64 = 1_000;

/// Number of earlier admissions that are reported with one over the limit.
const TOLD: usize = 12;

/// Time on either side of a clock step about which nothing is concluded, in milliseconds.
const STEP_MARGIN_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Admissions {
    /// By caller; `None` is the bucket of the client.
    by_caller: HashMap<Option<String>, Vec<u64>>,
    /// Times that Redis's clock repeated or skipped, as start and end.
    stepped_ms: Vec<(u64, u64)>,
}

/// Result of the check.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) seen: usize,
    /// Admissions for which their bucket had no room, as text.
    pub(crate) over_limit: Vec<String>,
}

impl Admissions {
    /// Records the admission of a completion's job, if it was admitted.
    pub(crate) fn note(&mut self, event: &Value) {
        let Some(started) = event["started_at"].as_str() else { return };
        let at = started.parse::<jiff::Timestamp>().unwrap();
        // A creation may name a caller and still uses the client's bucket.
        let caller = if event["type"] == "CreateUser" { None } else { event["caller_id"].as_str() };
        self.admitted(caller, u64::try_from(at.as_millisecond()).unwrap());
    }

    fn admitted(&mut self, caller: Option<&str>, at_ms: u64) {
        self.by_caller.entry(caller.map(str::to_owned)).or_default().push(at_ms);
    }

    /// Records that the clock jumped by `by_ms`, at about `at_ms` of a clock that did not jump.
    pub(crate) fn stepped(&mut self, at_ms: u64, by_ms: i64) {
        let other_ms = at_ms.saturating_add_signed(by_ms);
        let (from_ms, until_ms) = (at_ms.min(other_ms), at_ms.max(other_ms));
        self.stepped_ms.push((from_ms - STEP_MARGIN_MS, until_ms + STEP_MARGIN_MS));
    }

    fn is_certain(&self, at_ms: u64) -> bool {
        self.stepped_ms.iter().all(|(from_ms, until_ms)| !(*from_ms..*until_ms).contains(&at_ms))
    }

    /// Checks all recorded admissions.
    pub(crate) fn judge(&self) -> Judged {
        let mut judged = Judged::default();
        for (caller, noted) in &self.by_caller {
            let (interval_us, burst) = limit_of(caller.as_deref());
            let mut noted: Vec<u64> = noted.iter().copied().filter(|at_ms| self.is_certain(*at_ms)).collect();
            noted.sort_unstable();
            judged.seen += noted.len();
            let mut bucket = Explained::default();
            for (n, at_ms) in noted.iter().enumerate() {
                let at_us = at_ms * 1_000;
                if bucket.call(at_us, at_us - ROUNDING_US, interval_us, burst).is_none() {
                    let before: Vec<_> = noted[..n].iter().rev().take(TOLD).map(|before| at_ms - before).collect();
                    judged.over_limit.push(format!("{caller:?} at {at_ms}; the admissions before, ms ago: {before:?}"));
                }
            }
        }
        judged
    }
}

#[test]
fn one_admission_too_many_in_five_seconds_is_found() {
    let judge = |count: u64, every_ms: u64| {
        let mut admissions = Admissions::default();
        // Completions come in another order.
        (0..count).rev().for_each(|n| admissions.admitted(Some("a"), 1_000_000 + n * every_ms));
        admissions.judge().over_limit.len()
    };
    assert_eq!(judge(1_000, 500), 0);
    assert_eq!(judge(4, 0), 0, "the burst");
    assert_eq!(judge(5, 0), 1);
    assert!(judge(25, 400) > 0, "a quarter too many, for ten seconds");
}

#[test]
fn what_a_clock_that_jumped_says_of_that_time_proves_nothing() {
    let mut admissions = Admissions::default();
    admissions.stepped(1_020_000, -20_000);
    (0..20).for_each(|n| admissions.admitted(Some("a"), 1_005_000 + n));
    assert_eq!(admissions.judge().over_limit, Vec::<String>::new());
    (0..5).for_each(|n| admissions.admitted(Some("a"), 1_040_000 + n));
    assert_eq!(admissions.judge().over_limit.len(), 1);
}
