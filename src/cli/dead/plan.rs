//! What a replay would do: how many letters, of which kinds, which not and why, and how long it will take.

use crate::{
    cli::rows::printable,
    config::{Config, Rate},
    contract::MerchantId,
    dead_letters::{Facts, Ready, Refusal, Refused},
    jobs::{JobState, Surroundings, plan},
    limits::{Bucket, Limits},
    queue::dead::BucketState,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Of more buckets the busiest is not looked for: memory is bounded, and the estimate says "at least" in any case.
const MAX_BUCKETS: usize = 200_000;
/// Of more different places of faults only these are told.
const MAX_POINTERS: usize = 20;

/// What kind of letter, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    refusal: Option<Refusal>,
    job_type: String,
    error: String,
}

/// The plan.
#[derive(Default)]
pub(super) struct Plan {
    kinds: BTreeMap<Kind, u64>,
    /// Where jobs are invalid: how many, and what is wrong with one of them.
    faults: BTreeMap<String, (u64, String)>,
    risks: BTreeMap<Refusal, u64>,
    /// Letters that will be replayed.
    pub(super) ready: u64,
    /// Letters that will not.
    pub(super) refused: u64,
}

impl Plan {
    pub(super) fn count(&mut self, facts: &Facts<'_>, judged: &Result<Ready, Refused>) {
        let refusal = judged.as_ref().err().map(|refused| refused.refusal);
        // Both are words of ours: anything else that might stand there is not told apart.
        let known = crate::contract::JobType::from_name(&facts.letter.job_type);
        let kind = Kind {
            refusal,
            job_type: known.map_or("-", crate::contract::JobType::as_str).to_owned(),
            error: facts.error_kind().map_or("-", crate::contract::ErrorKind::as_str).to_owned(),
        };
        *self.kinds.entry(kind).or_default() += 1;
        match judged {
            Ok(ready) => {
                self.ready += 1;
                if let Some(risk) = ready.risk {
                    *self.risks.entry(risk).or_default() += 1;
                }
            }
            Err(refused) => {
                self.refused += 1;
                for fault in &refused.faults {
                    if self.faults.len() < MAX_POINTERS || self.faults.contains_key(&fault.pointer) {
                        let known = self.faults.entry(fault.pointer.clone());
                        known.or_insert_with(|| (0, fault.detail.clone())).0 += 1;
                    }
                }
            }
        }
    }

    /// For programs.
    pub(super) fn json(&self, time: Duration, limited_by: &str) -> Value {
        let kinds: Vec<_> = self
            .kinds
            .iter()
            .map(|(kind, count)| {
                let mut kind_json = json!({"type": kind.job_type, "error": kind.error, "count": count});
                if let Some(refusal) = kind.refusal {
                    kind_json["refused"] = refusal.code().into();
                }
                kind_json
            })
            .collect();
        let invalid_at: BTreeMap<_, _> = self.faults.iter().map(|(pointer, (count, _))| (pointer, count)).collect();
        json!({
            "replay": self.ready, "refused": self.refused, "kinds": kinds, "invalid_at": invalid_at,
            "at_least_ms": u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "limited_by": limited_by,
        })
    }

    /// For people.
    pub(super) fn text(&self, time: Duration, limited_by: &str) -> String {
        // Writing to a String cannot fail.
        let mut out = String::new();
        let table = |out: &mut String, refusal: Option<Refusal>| {
            for (kind, count) in self.kinds.iter().filter(|(kind, _)| kind.refusal == refusal) {
                let _ = writeln!(out, "  {count:>9}  {:<15}  {}", kind.job_type, kind.error);
            }
        };
        let _ = writeln!(out, "{} to be replayed", letters(self.ready));
        table(&mut out, None);
        let mut refusals: Vec<_> = self.kinds.keys().filter_map(|kind| kind.refusal).collect();
        refusals.dedup();
        for refusal in refusals {
            let of_it = self.kinds.iter().filter(|(kind, _)| kind.refusal == Some(refusal));
            let count = of_it.map(|(_, count)| count).sum();
            let _ = writeln!(out, "{} not: {}", letters(count), refusal.reason());
            table(&mut out, Some(refusal));
        }
        for (pointer, (count, detail)) in &self.faults {
            let place = if pointer.is_empty() { "the job" } else { pointer };
            let _ = writeln!(out, "  {count:>9}  {} {}", printable(place), printable(detail));
        }
        for (risk, count) in &self.risks {
            let what = match risk {
                Refusal::NobodyWaits => "send codes that nobody may be waiting for",
                _ => "may have taken effect already, and are repeated",
            };
            let _ = writeln!(out, "careful: {count} of them {what}");
        }
        if self.ready > 0 {
            let _ = writeln!(out, "this takes at least {}, because of {limited_by}", spoken(time));
        }
        out.trim_end().to_owned()
    }
}

pub(super) fn letters(count: u64) -> String {
    format!("{count} {}", if count == 1 { "letter" } else { "letters" })
}

/// `1 h 5 min`, `42 s`
pub(super) fn spoken(time: Duration) -> String {
    let s = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// Which buckets the replayed jobs will spend.
pub(super) struct Spending {
    limits: Limits,
    merchant: MerchantId,
    hasher: RandomState,
    counts: HashMap<u64, u64>,
    /// By partition: the busiest caller's bucket, the client's, and that of all calls.
    busiest: BTreeMap<(u16, Class), (Bucket, u64)>,
}

/// Buckets that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Caller,
    Client,
    Total,
}

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::Caller => "one caller's limit",
            Self::Client => "the limit on calls without a caller",
            Self::Total => "the limit on all calls",
        }
    }
}

impl Spending {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            limits: Limits::new(config.limits.clone(), config.redis.partitions),
            // Which merchant it is decides nothing here.
            merchant: config.xco.merchant_id.clone().unwrap_or_else(|| MerchantId::from_checked("")),
            hasher: RandomState::new(),
            counts: HashMap::new(),
            busiest: BTreeMap::new(),
        }
    }

    /// Books the first call of a job.
    pub(super) fn book(&mut self, partition: u16, ready: &Ready) {
        let Some(state) = JobState::from_json(ready.replay.state.as_bytes()) else { return };
        let planned = plan(&ready.job, &state, Surroundings { merchant: &self.merchant });
        let bucket = self.limits.bucket(planned.rate_class, planned.spender);
        let class = if bucket.name == "client" { Class::Client } else { Class::Caller };
        self.spend(partition, class, bucket);
        if let Some(total) = self.limits.total() {
            self.spend(partition, Class::Total, total);
        }
    }

    fn spend(&mut self, partition: u16, class: Class, bucket: Bucket) {
        let key = self.hasher.hash_one((partition, &bucket.name));
        let room = self.counts.len() < MAX_BUCKETS;
        let count = match self.counts.get_mut(&key) {
            Some(count) => {
                *count += 1;
                *count
            }
            None if room => *self.counts.entry(key).or_insert(1),
            None => return,
        };
        let takes_us = |bucket: &Bucket, count: u64| count * bucket.interval_us.max(1);
        let busiest = self.busiest.entry((partition, class)).or_insert_with(|| (bucket.clone(), 0));
        if takes_us(&bucket, count) > takes_us(&busiest.0, busiest.1) {
            *busiest = (bucket, count);
        }
    }

    /// The buckets that may hold up the replay, and how many calls will want them.
    pub(super) fn busiest(&self) -> impl Iterator<Item = (u16, Class, &Bucket, u64)> {
        self.busiest.iter().map(|((partition, class), (bucket, count))| (*partition, *class, bucket, *count))
    }
}

/// At least how long `calls` take in a bucket that stands so, and lets so much ahead of its rate.
pub(super) fn in_bucket(calls: u64, tolerance_us: u64, state: BucketState) -> Duration {
    let spread_us = calls.saturating_sub(1).saturating_mul(state.interval_us);
    Duration::from_micros(state.wait_us.saturating_add(spread_us.saturating_sub(tolerance_us)))
}

/// The longest of what holds the replay up, and its name.
pub(super) fn longest(
    count: u64,
    rate: Rate,
    buckets: impl Iterator<Item = (Class, Duration)>,
) -> (Duration, &'static str) {
    let paced = Duration::from_micros(count.saturating_sub(1).saturating_mul(rate.interval_us));
    buckets
        .map(|(class, time)| (time, class.name()))
        .fold((paced, "--rate"), |longest, next| if next.0 > longest.0 { next } else { longest })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        config::Limit,
        dead_letters::{Allowed, Changes, judge, testing::letter},
    };

    fn count(plan: &mut Plan, spending: &mut Spending, job: &str, error: &str) {
        let one = letter(job, error);
        let facts = Facts::new(&one);
        let judged = judge(&facts, &Changes::default(), Allowed::default());
        plan.count(&facts, &judged);
        if let Ok(ready) = &judged {
            spending.book(0, ready);
        }
    }

    #[test]
    fn a_plan_counts_by_type_and_error_and_says_why_not() {
        let mut config = Config::default();
        let rate = |interval_us| Rate { interval_us };
        config.limits.caller = Some(Limit { rate: rate(2_000_000), burst: 1 });
        let (mut plan, mut spending) = (Plan::default(), Spending::new(&config));
        let check = |caller: &str| {
            format!(r#"{{"type":"CheckUser","id":"a","caller_id":"{caller}","args":{{"email":"a@b.example"}}}}"#)
        };
        for caller in ["x", "y", "x", "x"] {
            count(&mut plan, &mut spending, &check(caller), r#"{"kind":"upstream"}"#);
        }
        count(&mut plan, &mut spending, &check("x"), r#"{"kind":"in_doubt"}"#);
        count(&mut plan, &mut spending, "{}", r#"{"kind":"timeout"}"#);
        assert_eq!((plan.ready, plan.refused), (4, 2));
        let busiest: Vec<_> =
            spending.busiest().map(|(_, class, bucket, n)| (class, bucket.name.as_str(), n)).collect();
        assert_eq!(busiest, [(Class::Caller, "caller:x", 3)]);
        let state = BucketState { interval_us: 2_000_000, wait_us: 500_000 };
        let time = in_bucket(3, 0, state);
        assert_eq!(in_bucket(3, 5_000_000, state), Duration::from_millis(500));
        assert_eq!(time, Duration::from_millis(4_500));
        let (time, by) = longest(plan.ready, rate(20_000), [(Class::Caller, time)].into_iter());
        assert_eq!((time.as_millis(), by), (4_500, "one caller's limit"));
        let (slow, by) = longest(plan.ready, rate(60_000_000), [(Class::Caller, time)].into_iter());
        assert_eq!((slow.as_secs(), by), (180, "--rate"));
        let text = plan.text(time, by);
        for line in [
            "4 letters to be replayed",
            "          4  CheckUser        upstream",
            "1 letter not: may have taken effect, and would be repeated: only with --accept-doubt",
            "1 letter not: is no valid job",
            "          1  /args is required",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let json = plan.json(time, by);
        assert_eq!((json["replay"].as_u64(), json["at_least_ms"].as_u64()), (Some(4), Some(4_500)));
        assert_eq!(spoken(Duration::from_millis(3_725_001)), "1 h 2 min");
    }
}
