//! Which bucket a call spends, and at what rate. Pure; the arithmetic itself runs in Redis, in `queue/lua/limiter.lua`.
//!
//! XCO keeps a bucket per `caller_id`, and one for all calls of a client that carry none (its "Rate Limiting" page).
//! `CheckUser`, `StartOtp` and `VerifyOtp` carry a caller; creating a user and creating a consent have no such field, so
//! they spend the client's bucket whatever the job says. A 429 closes the bucket that was spent, and no other.

mod adaptive;
mod breaker;
mod breakers;
mod budget;

pub use adaptive::{Adaptive, AdaptivePolicy, CallSeen, LoadSign};
pub use breaker::{Breaker, BreakerPolicy, BreakerState, CallEnd};
pub use breakers::{Breakers, Permit, RouteEnd, Scope};
pub use budget::RetryBudget;

use crate::{
    config::{Limit, LimitsConfig, Rate},
    contract::{CallerId, JobType},
};
use serde::{Deserialize, Serialize};

/// A bucket as Redis sees it: its name within a partition, and its rate there.
///
/// The rate is the configured one less a margin. Were it XCO's own to the microsecond, calls whose ways there differ by a
/// millisecond would be refused: [`Limits`] keeps `limits.margin` of a burst back for that and, where there is no burst to
/// keep it from, sets calls a little further apart; both clocks' drift costs one percent more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// `caller:<caller>`, `caller:<type>:<caller>`, `client` or `total`.
    pub name: String,
    /// Microseconds between calls; 0: no rate of its own, only closed by a 429.
    pub interval_us: u64,
    /// How far calls may run ahead of that rate after a pause, in microseconds.
    pub tolerance_us: u64,
    /// The same for calls whose slots were given before, and which may come late for them, in microseconds: never less.
    pub slack_us: u64,
    /// Where all jobs meet: bulk reserves no slot in it, but waits in a queue for what interactive leaves.
    pub shared: Option<SharedBucket>,
}

/// How a slot was given. It is an appointment: whether there is room for the call is asked when the job comes for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotKind {
    /// In the order in which jobs asked for one.
    #[default]
    Reserved,
    /// In the line of those that found no room when they came for theirs, or whose slot a 429 made worthless.
    InLine,
    /// By a 429 of the job's own call.
    After429,
}

/// The buckets that are not a caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SharedBucket {
    /// Of the calls that carry no caller.
    Client,
    /// Of all calls.
    Total,
}

impl SharedBucket {
    /// Each.
    pub const ALL: [Self; 2] = [Self::Client, Self::Total];

    /// Its bucket's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Total => "total",
        }
    }
}

/// Whose bucket a call spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spender<'a> {
    /// The call carries this caller.
    Caller(&'a CallerId),
    /// The call carries none.
    Client,
}

/// The buckets of one partition.
#[derive(Debug, Clone)]
pub struct Limits {
    config: LimitsConfig,
    partitions: u32,
}

impl Limits {
    /// Limits as configured, seen from one of `partitions`.
    pub fn new(config: LimitsConfig, partitions: u16) -> Self {
        Self { config, partitions: u32::from(partitions.max(1)) }
    }

    /// The bucket that a call of this type by this spender spends.
    pub fn bucket(&self, job_type: JobType, spender: Spender<'_>) -> Bucket {
        match spender {
            Spender::Caller(caller) => match self.config.types.get(&job_type) {
                Some(limit) => {
                    self.bucket_of(format!("caller:{}:{}", job_type.config_key(), caller.as_str()), Some(*limit))
                }
                None => self.bucket_of(format!("caller:{}", caller.as_str()), self.config.caller),
            },
            Spender::Client => self.shared(SharedBucket::Client),
        }
    }

    /// Whether 429s teach.
    pub const fn learns(&self) -> bool {
        self.config.learn
    }

    /// The bucket of all calls, where one is configured.
    pub fn total(&self) -> Option<Bucket> {
        self.config.total.map(|_| self.shared(SharedBucket::Total))
    }

    /// A shared bucket, whether or not a rate is configured for it. A limit on the whole client is split evenly over the
    /// partitions (contract §1).
    pub fn shared(&self, which: SharedBucket) -> Bucket {
        let whole = match which {
            SharedBucket::Client => self.config.client,
            SharedBucket::Total => self.config.total,
        };
        let part = whole.map(|limit| Limit {
            rate: Rate { interval_us: limit.rate.interval_us.saturating_mul(u64::from(self.partitions)) },
            burst: limit.burst / self.partitions,
        });
        Bucket { shared: Some(which), ..self.bucket_of(which.name().to_owned(), part) }
    }

    /// The shared buckets whose burst is less than there are partitions: the configured burst, and how many calls may come at
    /// once all the same. Each partition lets one through, since they do not ask each other.
    pub fn bursts_beyond(&self) -> Vec<(SharedBucket, u32, u32)> {
        let configured = [(SharedBucket::Client, self.config.client), (SharedBucket::Total, self.config.total)];
        let beyond = configured.into_iter().filter_map(|(which, limit)| Some((which, limit?.burst)));
        beyond
            .filter(|(_, burst)| self.partitions > 1 && *burst < self.partitions)
            .map(|(which, burst)| (which, burst, self.partitions))
            .collect()
    }

    fn bucket_of(&self, name: String, limit: Option<Limit>) -> Bucket {
        let Some(limit) = limit else {
            return Bucket { name, interval_us: 0, tolerance_us: 0, slack_us: 0, shared: None };
        };
        let interval_us = limit.rate.interval_us.max(1);
        let burst_us = interval_us.saturating_mul(u64::from(limit.burst.max(1) - 1));
        let margin_us = u64::try_from(self.config.margin.as_micros()).unwrap_or(u64::MAX);
        let kept_us = margin_us.min(burst_us / 2);
        let tolerance_us = burst_us - kept_us;
        let drift_us = if margin_us == 0 { 0 } else { interval_us.div_ceil(DRIFT_DIVISOR) };
        let most_us = (interval_us / MOST_STRETCH_DIVISOR).max(LEAST_STRETCH_US);
        let stretch_us = drift_us + margin_us.min(most_us).saturating_sub(kept_us);
        // Of what is kept back, half is for those who come late for their slots, and half for the calls' ways to XCO.
        let slack_us = tolerance_us.saturating_add(u64::midpoint(kept_us, stretch_us)).max(LEAST_SLACK_US);
        Bucket { name, interval_us: interval_us.saturating_add(stretch_us), tolerance_us, slack_us, shared: None }
    }
}

/// Calls are one percent further apart than configured …
const DRIFT_DIVISOR: u64 = 100;
/// … and up to three more where there is no burst to keep the margin from.
const MOST_STRETCH_DIVISOR: u64 = 33;
/// … or by this, where that is less than any network's jitter.
const LEAST_STRETCH_US: u64 = 3_000;
/// Earlier than this nobody comes.
const LEAST_SLACK_US: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limit(interval_us: u64, burst: u32) -> Limit {
        Limit { rate: Rate { interval_us }, burst }
    }

    fn without_margin(caller: Option<Limit>, client: Option<Limit>) -> LimitsConfig {
        LimitsConfig { caller, client, margin: Duration::ZERO, ..LimitsConfig::default() }
    }

    #[test]
    fn a_client_limit_is_split_over_the_partitions_and_a_callers_is_not() {
        let limits = Limits::new(without_margin(Some(limit(100, 8)), Some(limit(100, 8))), 4);
        let client = limits.bucket(JobType::CreateUser, Spender::Client);
        assert_eq!((client.interval_us, client.tolerance_us, client.shared), (400, 400, Some(SharedBucket::Client)));
        let caller = CallerId::from_checked("192.0.2.7");
        let own = limits.bucket(JobType::CheckUser, Spender::Caller(&caller));
        assert_eq!((own.name.as_str(), own.interval_us, own.tolerance_us), ("caller:192.0.2.7", 100, 700));
        assert_eq!(own.shared, None);
    }

    #[test]
    fn a_burst_that_cannot_be_split_is_told() {
        let with = |burst, partitions| {
            Limits::new(without_margin(Some(limit(100, 1)), Some(limit(100, burst))), partitions).bursts_beyond()
        };
        assert_eq!(with(10, 64), [(SharedBucket::Client, 10, 64)]);
        assert_eq!((with(64, 64), with(1, 1)), (vec![], vec![]));
    }

    #[test]
    fn a_margin_is_kept_from_the_burst_or_else_from_the_rate() {
        let of = |rate: Limit| {
            let config =
                LimitsConfig { client: Some(rate), margin: Duration::from_millis(10), ..LimitsConfig::default() };
            let bucket = Limits::new(config, 1).shared(SharedBucket::Client);
            (bucket.interval_us, bucket.tolerance_us, bucket.slack_us)
        };
        assert_eq!(of(limit(100_000, 3)), (101_000, 190_000, 195_500), "10/s, burst 3");
        assert_eq!(of(limit(20_000, 1)), (23_200, 0, 1_600), "50/s, no burst: 3 ms further apart");
        assert_eq!(of(limit(10_000, 2)), (10_100, 5_000, 7_550), "100/s, burst 2: half of it");
        assert_eq!(of(limit(1_000_000, 1)), (1_020_000, 0, 10_000), "1/s, no burst");
    }

    #[test]
    fn a_type_with_a_limit_of_its_own_has_a_bucket_of_its_own() {
        let mut config = LimitsConfig { caller: Some(limit(100, 8)), ..LimitsConfig::default() };
        config.types.insert(JobType::StartOtp, limit(60_000_000, 1));
        let limits = Limits::new(config, 1);
        let caller = CallerId::from_checked("c");
        assert_eq!(limits.bucket(JobType::StartOtp, Spender::Caller(&caller)).name, "caller:start_otp:c");
        assert_eq!(limits.bucket(JobType::VerifyOtp, Spender::Caller(&caller)).name, "caller:c");
    }

    #[test]
    fn without_a_configured_rate_only_a_429_closes() {
        let limits = Limits::new(LimitsConfig::default(), 1);
        assert_eq!(limits.bucket(JobType::CreateUser, Spender::Client).interval_us, 0);
        assert_eq!(limits.total(), None);
    }
}
