//! One caller: its limit, what it has learned, and its jobs.

use super::count;
use crate::{
    config::Config,
    contract::{JobType, fingerprint, format_ms, partition_of},
    operations::{
        Backend, Error,
        limits::{Configured, ConfiguredLimit},
    },
    queue::{
        learned::{LearnedLimit, learned_by},
        rules,
    },
    rules::RuleAction,
};
use redis::RedisResult;
use serde::Serialize;

/// Maximum number of delayed jobs that are looked at.
const MOST_DELAYED: u64 = 100_000;

/// One caller.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Caller {
    /// The `caller_id`, or the customer reference that takes its place.
    pub caller: String,
    /// The partition of its jobs.
    pub partition: u16,
    /// Its limit in force. Limits of single job types come in addition.
    pub configured: ConfiguredLimit,
    /// What 429s have taught its limit. `None`: it met none within ten minutes.
    pub learned: Option<LearnedRate>,
    /// No call is made before this time, RFC 3339. `None`: its limit is open.
    pub closed_until: Option<String>,
    /// Number of its jobs that come back later.
    pub delayed: u64,
    /// Number of its jobs that workers have read and not ended.
    pub in_flight: u64,
    /// Both numbers count all its jobs. Otherwise there were too many jobs to look at, and they are lower bounds.
    pub exact: bool,
    /// The operator's pause of this caller.
    pub paused: Option<CallerPause>,
}

/// What 429s have taught a limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearnedRate {
    /// The learned rate as grown by now; `None` where 429s do not teach (`limits.learn`).
    pub calls_per_second: Option<f64>,
    /// When the last 429 came, RFC 3339; `None` where that is not known.
    pub last_429_at: Option<String>,
}

/// An operator's pause of one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallerPause {
    /// Who ordered it.
    pub who: String,
    /// From which host or address.
    pub from: String,
    /// When, RFC 3339, on Redis's clock.
    pub at: String,
    /// When it ends by itself, RFC 3339.
    pub until: Option<String>,
}

impl Caller {
    /// Whether Redis holds anything about it. True if not all jobs were looked at, because some may be its own.
    pub const fn is_known(&self) -> bool {
        let has_jobs = self.delayed > 0 || self.in_flight > 0 || !self.exact;
        has_jobs || self.learned.is_some() || self.closed_until.is_some() || self.paused.is_some()
    }

    /// With a fingerprint in place of its name, for readers that may not see it.
    #[must_use]
    pub fn fingerprinted(self) -> Self {
        Self { caller: fingerprint(&self.caller), ..self }
    }
}

impl LearnedRate {
    pub(super) fn of(learned: &LearnedLimit) -> Self {
        let at_ms = Some(learned.last_429_ms).filter(|ms| *ms > 0);
        Self { calls_per_second: learned.rate_per_s, last_429_at: at_ms.map(format_ms) }
    }
}

/// Looks at one caller. A caller that is not known has no jobs and has learned nothing. Looks at up to 100,000 delayed jobs.
///
/// Where job types have limits of their own (`limits.types`), `learned` is that of the caller's bucket which met a 429 last, and
/// `closed_until` the latest of all.
///
/// # Errors
/// [`Error::Redis`].
pub async fn one(backend: &mut Backend<'_>, config: &Config, caller: &str) -> Result<Caller, Error> {
    let failed = backend.failed();
    look(backend, config, caller).await.map_err(failed)
}

async fn look(backend: &mut Backend<'_>, config: &Config, caller: &str) -> RedisResult<Caller> {
    let (first, partition) = (backend.common_keys(), partition_of(caller, backend.redis().partitions));
    let keys = backend.keys_of(partition);
    let link = &mut backend.link;
    let now_ms = rules::now_ms(link).await?;
    let limits = Configured::in_force(link, &first, config).await?;
    let mut buckets = Vec::new();
    for name in bucket_names(config, caller) {
        buckets.extend(learned_by(link, &keys, &name).await?);
    }
    let closed_until_ms = buckets.iter().map(|learned| learned.closed_until_ms).max().filter(|until| *until > now_ms);
    let learned = buckets.iter().max_by_key(|learned| learned.last_429_ms).map(LearnedRate::of);
    let (mut delayed, mut in_flight) = (0, 0);
    let (_, all_delayed) =
        count::delayed(link, &keys, config, MOST_DELAYED, |of| delayed += u64::from(of == caller)).await?;
    let all_in_flight = count::in_flight(link, &keys, config, |of| in_flight += u64::from(of == caller)).await?;
    let rules = rules::load(link, &first).await?;
    let pause = rules.all().find(|(verb, selector, order)| {
        *verb == RuleAction::Pause && selector.caller.as_deref() == Some(caller) && order.holds(now_ms)
    });
    Ok(Caller {
        caller: caller.to_owned(),
        partition,
        configured: ConfiguredLimit::of(limits.caller),
        learned,
        closed_until: closed_until_ms.map(format_ms),
        delayed,
        in_flight,
        exact: all_delayed && all_in_flight,
        paused: pause.map(|(_, _, order)| CallerPause {
            who: order.who.clone(),
            from: order.from.clone(),
            at: format_ms(order.at_ms),
            until: order.until_ms.map(format_ms),
        }),
    })
}

/// The buckets that a caller may have.
fn bucket_names(config: &Config, caller: &str) -> Vec<String> {
    let own = config.limits.types.keys().map(|job_type| typed(*job_type, caller));
    own.chain([format!("caller:{caller}")]).collect()
}

fn typed(job_type: JobType, caller: &str) -> String {
    format!("caller:{}:{caller}", job_type.config_key())
}
