//! The delay of a delayed job: what it waits for, and until when.

use super::live::Live;
use crate::{
    config::Config,
    contract::{DelayReason, format_ms},
    jobs::waits_for,
    limits::{Limits, SharedBucket},
    operations::Backend,
    queue::{Keys, Link, learned, rules},
    rules::{Decision, NO_END_MS, Selector, Subject},
};
use redis::{RedisResult, cmd};
use std::fmt::Write;

/// Why a job is delayed.
#[derive(Debug)]
pub(super) struct Delay {
    pub(super) reason: DelayReason,
    /// The reason as the end of a sentence: "waits for …".
    pub(super) because: String,
    /// `None`: there is no time for its end, or it has ended.
    pub(super) until_ms: Option<u64>,
}

impl Delay {
    /// The delay of a job of the partition with `keys` that comes back at `due_ms`.
    pub(super) async fn of(
        backend: &mut Backend<'_>,
        keys: &Keys,
        config: &Config,
        live: &Live,
        (due_ms, now_ms): (u64, u64),
    ) -> RedisResult<Self> {
        let reason = waits_for(live.state.as_ref());
        let because = match reason {
            DelayReason::Limit => limit(&mut backend.link, keys, config, live, now_ms).await?,
            DelayReason::Paused => pause(backend, config, live, now_ms).await?,
            DelayReason::Retry => {
                let failures = live.state.as_ref().map_or(0, |state| state.failures);
                format!("its next attempt, after {failures} that failed")
            }
            DelayReason::Breaker => {
                "XCO, which fails the call that it would make: it comes up once XCO is back".to_owned()
            }
            DelayReason::RunAt => "its run_at".to_owned(),
            DelayReason::Slot => "a free slot".to_owned(),
            DelayReason::Cancelled => "nothing: an operator cancelled it, and it ends now".to_owned(),
        };
        let has_time = due_ms < NO_END_MS && reason != DelayReason::Cancelled;
        Ok(Self { reason, because, until_ms: has_time.then_some(due_ms) })
    }
}

async fn limit(link: &mut Link, keys: &Keys, config: &Config, live: &Live, now_ms: u64) -> RedisResult<String> {
    let (bucket, mut because) = if let Some((bucket, because)) = place_in_queue(link, keys, live).await? {
        (bucket.name().to_owned(), because)
    } else {
        let limits = Limits::new(config.limits.clone(), config.redis.partitions);
        let Some((state, bucket)) = live.state.as_ref().zip(live.bucket(config, &limits)) else {
            return Ok("its limit".to_owned());
        };
        let bucket = bucket.name;
        let because = if state.reserved_total {
            format!("its turn in the limit of all calls, after that of {bucket}")
        } else {
            format!("its turn in the limit of {bucket}")
        };
        (bucket, because)
    };
    if let Some(learned) = learned::learned_by(link, keys, &bucket).await? {
        if learned.closed_until_ms > now_ms {
            let _ = write!(because, ", closed by a 429 until {}", format_ms(learned.closed_until_ms));
        }
        if let Some(rate) = learned.rate_per_s {
            let _ = write!(because, ", which has learned a rate of {rate:.1}/s");
        }
    }
    Ok(because)
}

/// The shared bucket in whose queue a bulk job waits, and its place there, in words. Such a job has no reservation: the time of its delay is
/// the latest time at which it leaves the queue.
async fn place_in_queue(link: &mut Link, keys: &Keys, live: &Live) -> RedisResult<Option<(SharedBucket, String)>> {
    let origin = live.origin.to_string();
    for bucket in SharedBucket::ALL {
        let queue = keys.waiting(bucket);
        let Some(age) = link.query::<Option<f64>>(cmd("ZSCORE").arg(queue).arg(&origin)).await? else { continue };
        let ahead: u64 = link.query(cmd("ZCOUNT").arg(queue).arg("-inf").arg(format!("({age}"))).await?;
        let calls = match bucket {
            SharedBucket::Client => "calls without a caller",
            SharedBucket::Total => "all calls",
        };
        let older = if ahead == 1 { "job" } else { "jobs" };
        let place =
            format!("its turn, at that time at the latest, behind {ahead} older {older} in the limit of {calls}");
        return Ok(Some((bucket, place)));
    }
    Ok(None)
}

async fn pause(backend: &mut Backend<'_>, config: &Config, live: &Live, now_ms: u64) -> RedisResult<String> {
    let keys = backend.common_keys();
    let rules = rules::load(&mut backend.link, &keys).await?;
    let job = live.parse(config.limits.allow_missing_caller_id);
    let paused = job.and_then(|(job, id)| {
        match rules.decide(&Subject::of(&job, &id, live.lane, live.origin.entry.ms), now_ms) {
            Decision::Pause(name, order) => Some(format!(
                "the end of an operator's pause ({}), by {} from {} since {}",
                selector_of(&name),
                order.who,
                order.from,
                format_ms(order.at_ms)
            )),
            _ => None,
        }
    });
    Ok(paused.unwrap_or_else(|| "the end of a pause, which is over: it comes up now".to_owned()))
}

/// The jobs that a rule selects, in words, from the rule's name.
fn selector_of(name: &str) -> String {
    let selector = name.split_once(' ').and_then(|(_, json)| serde_json::from_str::<Selector>(json).ok());
    selector.map_or_else(|| name.to_owned(), |selector| selector.describe())
}
