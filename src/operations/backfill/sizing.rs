//! How much a backfill will take.

use super::RowCounts;
use crate::config::Config;
use serde::Serialize;

/// Calls of a row: it is looked up, and created if XCO does not know it.
const CALLS: u64 = 2;
/// Bytes of Redis memory that an entry of a lane needs beside the job.
const ENTRY_BYTES: u64 = 24;
/// Bytes of Redis memory for the id of a job, during `queue.dedupe_window`.
const ID_BYTES: u64 = 135;
/// Bytes of Redis memory for a completion.
const COMPLETION_BYTES: u64 = 320;
/// Bytes of Redis memory for a row: its result, and the fingerprint of its customer.
const ROW_BYTES: u64 = 12;

/// How much a backfill will take, at most: as if every customer were new.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sizing {
    /// Calls to XCO.
    pub calls: u64,
    /// Calls a second that `limits.total` allows; `None`: unlimited.
    pub calls_per_second: Option<f64>,
    /// Hours that the calls take at this limit.
    pub hours: Option<f64>,
    /// Bytes of Redis memory, with the completions.
    pub redis_bytes: u64,
    /// Of these, bytes of completions.
    pub completion_bytes: u64,
    /// Whether `completions.max_bytes` keeps all completions. If not, the command must run while the jobs do.
    pub completions_fit: bool,
}

impl Sizing {
    /// The sizing of these rows, whose jobs have `job_bytes` in all. `window` rows are in the queue at once.
    pub(super) fn new(counts: RowCounts, job_bytes: u64, window: u64, config: &Config) -> Self {
        let calls = counts.valid * CALLS;
        let mean = job_bytes / counts.valid.max(1);
        let queued = counts.valid.min(window) * (mean + ENTRY_BYTES);
        let all_completions = calls * COMPLETION_BYTES;
        let completion_bytes = all_completions.min(config.completions.max_bytes);
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let (per_second, of) = (config.limits.total.map(|limit| limit.rate.per_second()), calls as f64);
        Self {
            calls,
            calls_per_second: per_second,
            hours: per_second.map(|per_second| of / per_second / 3600.0),
            redis_bytes: queued + calls * ID_BYTES + completion_bytes + counts.valid * ROW_BYTES,
            completion_bytes,
            completions_fit: all_completions <= config.completions.max_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Limit, parse_rate};

    #[test]
    fn a_backfill_is_sized_by_its_rows_and_the_limit() {
        let mut config = Config::default();
        config.limits.total = Some(Limit { rate: parse_rate("20/s").unwrap(), burst: 20 });
        config.completions.max_bytes = 1 << 30;
        let counts = RowCounts { valid: 36_000, ..RowCounts::default() };
        let sizing = Sizing::new(counts, 36_000 * 400, 10_000, &config);
        assert_eq!((sizing.calls, sizing.calls_per_second, sizing.hours), (72_000, Some(20.0), Some(1.0)));
        assert!(sizing.completions_fit && sizing.redis_bytes > sizing.completion_bytes);
        config.completions.max_bytes = 1 << 20;
        let sizing = Sizing::new(counts, 36_000 * 400, 10_000, &config);
        assert!(!sizing.completions_fit && sizing.completion_bytes == 1 << 20);
    }
}
