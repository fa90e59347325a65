//! Determines the bucket and the rate of a call. Pure: the arithmetic itself runs in Redis, in `queue/lua/limiter/limiter.lua`.
//!
//! XCO keeps a bucket per `caller_id`, and one for all calls of a client without a caller (see its "Rate Limiting"
//! page). `CheckUser`, `StartOtp` and `VerifyOtp` carry a caller. The calls that create a user or a consent have no
//! such field, so they always use the client's bucket. A 429 closes only the bucket that the call used.

mod adaptive;
mod breaker;
mod breakers;
mod overrides;
mod retry_budget;

pub use adaptive::{Adaptive, AdaptivePolicy, LoadSign, ObservedCall};
pub use breaker::{Breaker, BreakerPolicy, BreakerState, CallEnd};
pub use breakers::{BreakerScope, Breakers, Permit, RouteEnd};
pub use overrides::{
    LimitName, LimitSetting, MAX_OVERRIDE_BYTES, MAX_REASON_CHARS, Override, OverrideValue, Overrides,
};
pub use retry_budget::RetryBudget;

use crate::{
    config::{Limit, LimitsConfig, Rate},
    contract::{CallerId, JobType, Partitions},
};
use serde::{Deserialize, Serialize};

/// The settings of a bucket for Redis: its name within a partition, and its rate there.
///
/// The rate is the configured one minus a margin. If it were exactly XCO's own, calls with network delays that differ
/// by a millisecond would be refused. [`Limits`] therefore keeps `limits.margin` of a burst unused. Where the burst is
/// too small for that, it spaces calls slightly wider. A further one percent covers the drift of both clocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// The name: `caller:<caller>`, `caller:<type>:<caller>`, `client` or `total`.
    pub name: String,
    /// Microseconds between calls. 0 means that the bucket has no rate and is only closed by a 429.
    pub interval_us: u64,
    /// How far calls may run ahead of the rate after a pause, in microseconds.
    pub tolerance_us: u64,
    /// Like `tolerance_us`, in microseconds, for calls that have a reservation and may arrive late for it. Never less
    /// than `tolerance_us`.
    pub slack_us: u64,
    /// Set for a bucket that all jobs share. Bulk jobs make no reservation there, but queue for what interactive jobs
    /// leave.
    pub shared: Option<SharedBucket>,
}

/// The place of a job among those that have a reservation in a bucket. The reservation's time is only an appointment:
/// when the job arrives, it may go if there is room for it and for all earlier turns that have not gone yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turn(u64);

impl Turn {
    /// No turn: the bucket had room for the job, or a former version gave it none.
    pub const NONE: Self = Self(0);

    /// Before all turns: the job had its turn, and a 429 refused its call.
    pub const AGAIN: Self = Self(1);

    /// The turn with this number, as the limiter gave it.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the turn.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// The buckets that do not belong to one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SharedBucket {
    /// The bucket of calls without a caller.
    Client,
    /// The bucket of all calls.
    Total,
}

impl SharedBucket {
    /// Both shared buckets.
    pub const ALL: [Self; 2] = [Self::Client, Self::Total];

    /// The name of the bucket.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Total => "total",
        }
    }
}

/// Which bucket a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spender<'a> {
    /// The bucket of this caller, which the call carries.
    Caller(&'a CallerId),
    /// The client's bucket, because the call carries no caller.
    Client,
}

/// The buckets of one partition.
#[derive(Debug, Clone)]
pub struct Limits {
    config: LimitsConfig,
    partitions: Partitions,
}

impl Limits {
    /// Creates the limits of one of `partitions` partitions, as configured.
    pub const fn new(config: LimitsConfig, partitions: Partitions) -> Self {
        Self { config, partitions }
    }

    /// Returns the bucket that a call of this type by this spender uses.
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

    /// Gives a bucket the rate that holds now. `job_type` is that of the call. A job that was read before the limits changed thus
    /// spends the rate of today.
    #[must_use]
    pub fn renewed(&self, job_type: JobType, bucket: Bucket) -> Bucket {
        match bucket.shared {
            Some(which) => self.shared(which),
            None => self.bucket_of(bucket.name, self.config.types.get(&job_type).copied().or(self.config.caller)),
        }
    }

    /// Whether the rate is learned from 429s (`limits.learn`).
    pub const fn learns(&self) -> bool {
        self.config.learn
    }

    /// Returns the bucket of all calls, if one is configured.
    pub fn total(&self) -> Option<Bucket> {
        self.config.total.map(|_| self.shared(SharedBucket::Total))
    }

    /// Returns a shared bucket, whether or not a rate is configured for it. A limit on the whole client is split evenly
    /// over the partitions (contract §1).
    pub fn shared(&self, which: SharedBucket) -> Bucket {
        let whole = match which {
            SharedBucket::Client => self.config.client,
            SharedBucket::Total => self.config.total,
        };
        let part = whole.map(|limit| Limit {
            rate: Rate { interval_us: limit.rate.interval_us.saturating_mul(u64::from(self.partitions.get())) },
            burst: limit.burst / u32::from(self.partitions.get()),
        });
        Bucket { shared: Some(which), ..self.bucket_of(which.name().to_owned(), part) }
    }

    /// Returns the shared buckets whose burst is smaller than the number of partitions, with the configured burst and
    /// the number of calls that can come at once. Partitions do not coordinate, so each lets one call through.
    pub fn bursts_beyond(&self) -> Vec<(SharedBucket, u32, u32)> {
        let configured = [(SharedBucket::Client, self.config.client), (SharedBucket::Total, self.config.total)];
        let partitions = u32::from(self.partitions.get());
        let beyond = configured.into_iter().filter_map(|(which, limit)| Some((which, limit?.burst)));
        beyond
            .filter(|(_, burst)| partitions > 1 && *burst < partitions)
            .map(|(which, burst)| (which, burst, partitions))
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
        // One half of the margin is for jobs that arrive late for their reservations, the other for network delays on
        // the way to XCO.
        let slack_us = tolerance_us.saturating_add(u64::midpoint(kept_us, stretch_us)).max(LEAST_SLACK_US);
        Bucket { name, interval_us: interval_us.saturating_add(stretch_us), tolerance_us, slack_us, shared: None }
    }
}

/// Calls are spaced one percent (1/100) wider than configured, for clock drift.
const DRIFT_DIVISOR: u64 = 100;
/// Calls are spaced at most a further 3 % (1/33) wider, where there is no burst to take the margin from.
const MOST_STRETCH_DIVISOR: u64 = 33;
/// Extra spacing that is always allowed, in microseconds: less would be below the jitter of any network.
const LEAST_STRETCH_US: u64 = 3_000;
/// Minimum slack in microseconds. No job arrives earlier than this for its reservation.
const LEAST_SLACK_US: u64 = 1_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
        let limits = Limits::new(without_margin(Some(limit(100, 8)), Some(limit(100, 8))), Partitions::new(4).unwrap());
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
            let config = without_margin(Some(limit(100, 1)), Some(limit(100, burst)));
            Limits::new(config, Partitions::new(partitions).unwrap()).bursts_beyond()
        };
        assert_eq!(with(10, 64), [(SharedBucket::Client, 10, 64)]);
        assert_eq!((with(64, 64), with(1, 1)), (vec![], vec![]));
    }

    #[test]
    fn a_margin_is_kept_from_the_burst_or_else_from_the_rate() {
        let of = |rate: Limit| {
            let config =
                LimitsConfig { client: Some(rate), margin: Duration::from_millis(10), ..LimitsConfig::default() };
            let bucket = Limits::new(config, Partitions::ONE).shared(SharedBucket::Client);
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
        let limits = Limits::new(config, Partitions::ONE);
        let caller = CallerId::from_checked("c");
        assert_eq!(limits.bucket(JobType::StartOtp, Spender::Caller(&caller)).name, "caller:start_otp:c");
        assert_eq!(limits.bucket(JobType::VerifyOtp, Spender::Caller(&caller)).name, "caller:c");
    }

    #[test]
    fn a_bucket_takes_the_rate_that_holds_now() {
        let two = Partitions::new(2).unwrap();
        let mut config = without_margin(Some(limit(100, 8)), Some(limit(100, 8)));
        config.types.insert(JobType::StartOtp, limit(60_000_000, 1));
        let (before, after) = (
            Limits::new(config.clone(), two),
            Limits::new(LimitsConfig { caller: Some(limit(7, 1)), client: None, ..config }, two),
        );
        let caller = CallerId::from_checked("c");
        for (job_type, spender) in [
            (JobType::CheckUser, Spender::Caller(&caller)),
            (JobType::StartOtp, Spender::Caller(&caller)),
            (JobType::CreateUser, Spender::Client),
        ] {
            let renewed = after.renewed(job_type, before.bucket(job_type, spender));
            assert_eq!(renewed, after.bucket(job_type, spender));
        }
    }

    #[test]
    fn without_a_configured_rate_only_a_429_closes() {
        let limits = Limits::new(LimitsConfig::default(), Partitions::ONE);
        assert_eq!(limits.bucket(JobType::CreateUser, Spender::Client).interval_us, 0);
        assert_eq!(limits.total(), None);
    }
}
