//! Which rate-limit buckets the replayed jobs spend, and how long that takes at least. Pure.

use super::ReadyReplay;
use crate::{
    config::{Config, Rate},
    contract::MerchantId,
    jobs::{CallInputs, JobState, next_call},
    limits::{Bucket, Limits},
};
use serde::{Serialize, Serializer};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Maximum number of buckets that are counted. The busiest of further ones is not looked for: memory stays bounded, and an
/// estimate is a lower bound in any case.
const MAX_BUCKETS: usize = 200_000;

/// What makes a replay take as long as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitedBy {
    /// The limit of the caller with the most calls.
    Caller,
    /// The limit on calls that carry no caller.
    Client,
    /// The limit on all calls.
    Total,
    /// The rate that was asked for.
    Rate,
}

impl fmt::Display for LimitedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "one caller's limit",
            Self::Client => "the limit on calls without a caller",
            Self::Total => "the limit on all calls",
            Self::Rate => "--rate",
        })
    }
}

impl Serialize for LimitedBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// State of a bucket in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// Microseconds between calls, learned or configured. 0 means that there is no rate.
    pub interval_us: u64,
    /// Microseconds until the next call may go.
    pub wait_us: u64,
}

impl BucketState {
    /// Minimum time until the last of `calls` may go, when they may run ahead of the rate by `tolerance_us`.
    pub(super) fn time_for(self, calls: u64, tolerance_us: u64) -> Duration {
        let spread_us = calls.saturating_sub(1).saturating_mul(self.interval_us);
        Duration::from_micros(self.wait_us.saturating_add(spread_us.saturating_sub(tolerance_us)))
    }
}

/// A bucket that may limit a replay: the one with the most to do among those it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyBucket {
    /// The partition it belongs to.
    pub partition: u16,
    /// What it would be named as the reason.
    pub limited_by: LimitedBy,
    /// The bucket.
    pub bucket: Bucket,
    /// How many first calls of replayed jobs spend it.
    pub calls: u64,
}

/// Counts the first call of every replayed job in the bucket that it spends.
pub(super) struct Spending {
    limits: Limits,
    merchant: MerchantId,
    hasher: RandomState,
    counts: HashMap<u64, u64>,
    busiest: BTreeMap<(u16, LimitedBy), (Bucket, u64)>,
}

impl Spending {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            limits: Limits::new(config.limits.clone(), config.redis.partitions),
            // No bucket depends on the merchant.
            merchant: config.xco.merchant_id.clone().unwrap_or_else(|| MerchantId::from_checked("")),
            hasher: RandomState::new(),
            counts: HashMap::new(),
            busiest: BTreeMap::new(),
        }
    }

    /// Counts the first call of a job.
    pub(super) fn count(&mut self, partition: u16, ready: &ReadyReplay) {
        let Some(state) = JobState::from_json(ready.replay.state.as_bytes()) else { return };
        let next = next_call(&ready.job, &state, CallInputs { merchant: &self.merchant });
        let bucket = self.limits.bucket(next.rate_class, next.spender);
        let limited_by = if bucket.name == "client" { LimitedBy::Client } else { LimitedBy::Caller };
        self.spend(partition, limited_by, bucket);
        if let Some(total) = self.limits.total() {
            self.spend(partition, LimitedBy::Total, total);
        }
    }

    fn spend(&mut self, partition: u16, limited_by: LimitedBy, bucket: Bucket) {
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
        let busiest = self.busiest.entry((partition, limited_by)).or_insert_with(|| (bucket.clone(), 0));
        if takes_us(&bucket, count) > takes_us(&busiest.0, busiest.1) {
            *busiest = (bucket, count);
        }
    }

    pub(super) fn busiest(&self) -> Vec<BusyBucket> {
        let busiest = self.busiest.iter().map(|((partition, limited_by), (bucket, calls))| BusyBucket {
            partition: *partition,
            limited_by: *limited_by,
            bucket: bucket.clone(),
            calls: *calls,
        });
        busiest.collect()
    }
}

/// The longest of the times that bound a replay of `count` dead letters at `rate`, and its reason.
pub(super) fn longest(
    count: u64,
    rate: Rate,
    buckets: impl Iterator<Item = (LimitedBy, Duration)>,
) -> (Duration, LimitedBy) {
    let paced = Duration::from_micros(count.saturating_sub(1).saturating_mul(rate.interval_us));
    buckets
        .map(|(limited_by, time)| (time, limited_by))
        .fold((paced, LimitedBy::Rate), |longest, next| if next.0 > longest.0 { next } else { longest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_takes_its_wait_and_what_the_burst_does_not_cover() {
        let state = BucketState { interval_us: 2_000_000, wait_us: 500_000 };
        assert_eq!(state.time_for(3, 0), Duration::from_millis(4_500));
        assert_eq!(state.time_for(3, 5_000_000), Duration::from_millis(500));
    }

    #[test]
    fn the_longest_time_names_its_reason() {
        let caller = (LimitedBy::Caller, Duration::from_millis(4_500));
        let rate = |interval_us| Rate { interval_us };
        let (time, by) = longest(4, rate(20_000), [caller].into_iter());
        assert_eq!((time.as_millis(), by.to_string().as_str()), (4_500, "one caller's limit"));
        let (time, by) = longest(4, rate(60_000_000), [caller].into_iter());
        assert_eq!((time.as_secs(), by.to_string().as_str()), (180, "--rate"));
    }
}
