//! Which bucket a call spends, and at what rate. Pure; the arithmetic itself runs in Redis, in `queue/lua/limiter.lua`.
//!
//! XCO keeps a bucket per `caller_id`, and one for all calls of a client that carry none (its "Rate Limiting" page).
//! `CheckUser`, `StartOtp` and `VerifyOtp` carry a caller; creating a user and creating a consent have no such field, so
//! they spend the client's bucket whatever the job says. A 429 closes the bucket that was spent, and no other.

mod adaptive;
mod breaker;
mod budget;

pub use adaptive::{Adaptive, AdaptivePolicy};
pub use breaker::{Breaker, BreakerPolicy, BreakerState};
pub use budget::RetryBudget;

use crate::{
    config::{Limit, LimitsConfig},
    contract::{CallerId, JobType},
};

/// A bucket as Redis sees it: its name within a partition, and its rate there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// `caller:<caller>`, `caller:<type>:<caller>`, `client` or `total`.
    pub name: String,
    /// Microseconds between calls; 0: no rate of its own, only closed by a 429.
    pub interval_us: u64,
    /// Calls at once after a pause.
    pub burst: u32,
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
                Some(limit) => whole(format!("caller:{}:{}", job_type.config_key(), caller.as_str()), Some(*limit)),
                None => whole(format!("caller:{}", caller.as_str()), self.config.caller),
            },
            Spender::Client => self.share("client", self.config.client),
        }
    }

    /// Whether 429s teach.
    pub const fn learns(&self) -> bool {
        self.config.learn
    }

    /// The bucket of all calls, where one is configured.
    pub fn total(&self) -> Option<Bucket> {
        self.config.total.map(|limit| self.share("total", Some(limit)))
    }

    /// A limit on the whole client is split evenly over the partitions (contract §1).
    fn share(&self, name: &str, limit: Option<Limit>) -> Bucket {
        let mut bucket = whole(name.to_owned(), limit);
        bucket.interval_us = bucket.interval_us.saturating_mul(u64::from(self.partitions));
        bucket.burst = (bucket.burst / self.partitions).max(1);
        bucket
    }
}

fn whole(name: String, limit: Option<Limit>) -> Bucket {
    Bucket {
        name,
        interval_us: limit.map_or(0, |limit| limit.rate.interval_us.max(1)),
        burst: limit.map_or(1, |limit| limit.burst.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn limit(interval_us: u64, burst: u32) -> Limit {
        Limit { rate: Rate { interval_us }, burst }
    }

    #[test]
    fn a_client_limit_is_split_over_the_partitions_and_a_callers_is_not() {
        let config =
            LimitsConfig { caller: Some(limit(100, 8)), client: Some(limit(100, 8)), ..LimitsConfig::default() };
        let limits = Limits::new(config, 4);
        let client = limits.bucket(JobType::CreateUser, Spender::Client);
        assert_eq!((client.interval_us, client.burst), (400, 2));
        let caller = CallerId::from_checked("192.0.2.7");
        let own = limits.bucket(JobType::CheckUser, Spender::Caller(&caller));
        assert_eq!((own.name.as_str(), own.interval_us, own.burst), ("caller:192.0.2.7", 100, 8));
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
