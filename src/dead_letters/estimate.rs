//! What a replay would do, counted before it starts: how many dead letters, of which kinds, which not and why, and how long it
//! takes at least. Pure.

use super::{
    BucketState, BusyBucket, DeadLetterView, LimitedBy, ReadyReplay, Refused, ReplayRefusal,
    spending::{Spending, longest},
};
use crate::{
    config::{Config, Rate},
    contract::{ErrorKind, JobType},
};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Maximum number of different JSON Pointers that an estimate names.
const MAX_POINTERS: usize = 20;

/// What a replay would do. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayEstimate {
    /// Minimum duration in milliseconds, from the rate and from the buckets as they are now.
    pub at_least_ms: u64,
    /// JSON Pointers of the faults of invalid jobs: at most 20 of them.
    pub invalid_at: BTreeMap<String, InvalidAt>,
    /// Number of dead letters by type and error; those that are not replayed apart, by reason.
    pub kinds: Vec<KindCount>,
    /// What `at_least_ms` comes from.
    pub limited_by: LimitedBy,
    /// Number of dead letters that fit and are not replayed.
    pub refused: u64,
    /// Number of dead letters that are replayed.
    pub replay: u64,
    /// Of those that are replayed: how many have an effect that was allowed explicitly. Not part of the JSON.
    #[serde(skip)]
    pub risks: BTreeMap<ReplayRefusal, u64>,
}

/// Number of dead letters of one type and error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// Number of dead letters.
    pub count: u64,
    /// The kind of error; `-` where it is none that is known.
    pub error: &'static str,
    /// Why they are not replayed; `None`: they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<ReplayRefusal>,
    /// The job type; `-` where it is none that is known.
    #[serde(rename = "type")]
    pub job_type: &'static str,
}

/// One JSON Pointer at which jobs are invalid. Its JSON is the number of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidAt {
    /// How many jobs.
    pub count: u64,
    /// What is wrong with one of them.
    pub detail: String,
}

impl Serialize for InvalidAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.count)
    }
}

/// Counts dead letters by type and error.
#[derive(Debug, Default)]
pub struct KindCounts(BTreeMap<(Option<ReplayRefusal>, &'static str, &'static str), u64>);

impl KindCounts {
    /// Counts one; `refused` says why it is left where it is. A type or error that is unknown is counted as `-`, because it may
    /// be any text.
    pub fn count(&mut self, view: &DeadLetterView<'_>, refused: Option<ReplayRefusal>) {
        let job_type = JobType::from_name(&view.letter.job_type).map_or("-", JobType::as_str);
        let error = view.error_kind().map_or("-", ErrorKind::as_str);
        *self.0.entry((refused, job_type, error)).or_default() += 1;
    }

    /// The counts: first those without a refusal, then by refusal; by type and error within.
    pub fn into_vec(self) -> Vec<KindCount> {
        let kinds = self.0.into_iter();
        kinds.map(|((refused, job_type, error), count)| KindCount { count, error, refused, job_type }).collect()
    }
}

/// Builds a [`ReplayEstimate`], one dead letter at a time.
pub struct Estimator {
    kinds: KindCounts,
    invalid_at: BTreeMap<String, InvalidAt>,
    risks: BTreeMap<ReplayRefusal, u64>,
    spending: Spending,
    replay: u64,
    refused: u64,
}

impl Estimator {
    /// Of this configuration only limits, partitions and merchant matter.
    pub fn new(config: &Config) -> Self {
        Self {
            kinds: KindCounts::default(),
            invalid_at: BTreeMap::new(),
            risks: BTreeMap::new(),
            spending: Spending::new(config),
            replay: 0,
            refused: 0,
        }
    }

    /// Counts a dead letter and what would become of it.
    pub fn count(&mut self, view: &DeadLetterView<'_>, decided: &Result<ReadyReplay, Refused>) {
        self.kinds.count(view, decided.as_ref().err().map(|refused| refused.refusal));
        match decided {
            Ok(ready) => {
                self.replay += 1;
                if let Some(risk) = ready.risk {
                    *self.risks.entry(risk).or_default() += 1;
                }
                self.spending.count(view.letter.partition, ready);
            }
            Err(refused) => {
                self.refused += 1;
                for fault in &refused.faults {
                    if self.invalid_at.len() < MAX_POINTERS || self.invalid_at.contains_key(&fault.pointer) {
                        let at = self.invalid_at.entry(fault.pointer.clone());
                        at.or_insert_with(|| InvalidAt { count: 0, detail: fault.detail.clone() }).count += 1;
                    }
                }
            }
        }
    }

    /// Number of dead letters counted so far that would be replayed.
    pub const fn replay(&self) -> u64 {
        self.replay
    }

    /// The buckets whose state [`Self::finish`] needs.
    pub fn busiest(&self) -> Vec<BusyBucket> {
        self.spending.busiest()
    }

    /// The estimate at this rate, with the buckets of [`Self::busiest`] in these states.
    pub fn finish(self, rate: Rate, buckets: &[(BusyBucket, BucketState)]) -> ReplayEstimate {
        let times =
            buckets.iter().map(|(busy, state)| (busy.limited_by, state.time_for(busy.calls, busy.bucket.tolerance_us)));
        let (at_least, limited_by) = longest(self.replay, rate, times);
        ReplayEstimate {
            at_least_ms: u64::try_from(at_least.as_millis()).unwrap_or(u64::MAX),
            invalid_at: self.invalid_at,
            kinds: self.kinds.into_vec(),
            limited_by,
            refused: self.refused,
            replay: self.replay,
            risks: self.risks,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        config::Limit,
        dead_letters::{AcceptedRisks, Changes, decide_replay, testing::dead_letter},
    };
    use serde_json::json;

    #[test]
    fn an_estimate_counts_by_type_and_error_and_says_why_not() {
        let mut config = Config::default();
        let rate = |interval_us| Rate { interval_us };
        config.limits.caller = Some(Limit { rate: rate(2_000_000), burst: 1 });
        let mut estimator = Estimator::new(&config);
        let mut count = |job: &str, error: &str| {
            let one = dead_letter(job, error);
            let view = DeadLetterView::new(&one);
            let decided = decide_replay(&view, &Changes::default(), AcceptedRisks::default());
            estimator.count(&view, &decided);
        };
        let check = |caller: &str| {
            format!(r#"{{"type":"CheckUser","id":"a","caller_id":"{caller}","args":{{"email":"a@b.example"}}}}"#)
        };
        for caller in ["x", "y", "x", "x"] {
            count(&check(caller), r#"{"kind":"upstream"}"#);
        }
        count(&check("x"), r#"{"kind":"in_doubt"}"#);
        count("{}", r#"{"kind":"timeout"}"#);
        let busiest = estimator.busiest();
        assert_eq!(busiest.len(), 1);
        assert_eq!((busiest[0].limited_by, busiest[0].bucket.name.as_str()), (LimitedBy::Caller, "caller:x"));
        assert_eq!((busiest[0].calls, estimator.replay()), (3, 4));
        let state = BucketState { interval_us: 2_000_000, wait_us: 500_000 };
        let busy = BusyBucket {
            bucket: crate::limits::Bucket { tolerance_us: 0, ..busiest[0].bucket.clone() },
            ..busiest[0].clone()
        };
        let estimate = estimator.finish(rate(20_000), &[(busy, state)]);
        assert_eq!(
            serde_json::to_string(&estimate).unwrap(),
            json!({
                "at_least_ms": 4_500, "invalid_at": {"/args": 1, "/type": 1}, "limited_by": "one caller's limit",
                "kinds": [
                    {"count": 4, "error": "upstream", "type": "CheckUser"},
                    {"count": 1, "error": "in_doubt", "refused": "in_doubt", "type": "CheckUser"},
                    {"count": 1, "error": "timeout", "refused": "invalid", "type": "CheckUser"},
                ],
                "refused": 2, "replay": 4,
            })
            .to_string()
        );
    }
}
