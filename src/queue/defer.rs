//! Delays a job after a 429: the typed wrapper of `lua/limiter/defer.lua`.

use super::{
    Keys, Link, Source,
    finish::{QueuePosition, parked},
    script::{Script, ScriptFailure, script},
};
use crate::{
    contract::{EntryId, Lane},
    limits::Bucket,
};
use redis::RedisResult;
use std::{sync::LazyLock, time::Duration};

static SCRIPT: LazyLock<Script> = LazyLock::new(
    || script!("limiter/defer" on "shared/atomic" on "ids/index" on "limiter/limiter" on "limiter/turns" on "limiter/strikes" on "limiter/recent"),
);

/// A delivery whose call was answered with 429.
#[derive(Debug, Clone)]
pub struct Deferral {
    /// The stream entry of the delivery.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub origin: String,
    /// The bucket that the call used.
    pub bucket: Bucket,
    /// The delay that XCO asked for. Without one, the delay grows with each consecutive 429.
    pub retry_after: Option<Duration>,
    /// Whether the bucket learns a rate from this 429.
    pub learn: bool,
    /// The job's deadline, in milliseconds on Redis's clock.
    pub deadline_ms: Option<u64>,
    /// The job's new state, as JSON. It has a reservation in the bucket, unless the job waits in the bucket's queue.
    pub state: String,
    /// For a bulk job in a shared bucket: its position in the queue, and the latest time to leave it, in milliseconds
    /// on Redis's clock.
    pub place: Option<(QueuePosition, u64)>,
    /// The job's JSON.
    pub job: Vec<u8>,
}

/// The result of [`defer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deferred {
    /// The job is delayed until the bucket opens again.
    Delayed {
        /// When the job is due, in milliseconds on Redis's clock.
        due_ms: u64,
    },
    /// The delivery had already ended.
    NotOurs,
    /// The job's deadline comes first. The delivery is still pending for the consumer, which must end it.
    TooLate,
    /// A command failed. The bucket is closed, and the delivery is still pending for the consumer, which must delay the
    /// job.
    Failed(ScriptFailure),
}

/// Closes the bucket for all workers and delays the job until it opens again, in one atomic step.
///
/// After a lost reply, a repetition finds that the job is gone ([`Deferred::NotOurs`]) and closes the bucket again for
/// the same time.
pub async fn defer(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    source: Source,
    consumer: &str,
    deferral: &Deferral,
) -> RedisResult<Deferred> {
    let retry_after_us =
        deferral.retry_after.map_or(-1, |delay| i64::try_from(delay.as_micros()).unwrap_or(i64::MAX / 4));
    let mut call = SCRIPT.call(8 + usize::from(deferral.place.is_some()));
    call.arg(keys.stream(lane, source))
        .arg(&keys.begun)
        .arg(&keys.delayed)
        .arg(&keys.delayed_jobs)
        .arg(keys.limit(&deferral.bucket.name))
        .arg(&keys.learned)
        .arg(&keys.recent);
    if let Some((place, _)) = &deferral.place {
        call.arg(keys.waiting(place.bucket));
    }
    call.arg(deferral.entry.to_string())
        .arg(&deferral.origin)
        .arg(parked(&deferral.state, &deferral.job))
        .arg(retry_after_us)
        .arg(deferral.bucket.interval_us)
        .arg(deferral.bucket.tolerance_us)
        .arg(deferral.deadline_ms.unwrap_or(0))
        .arg(u8::from(deferral.learn))
        .arg(&deferral.bucket.name)
        .arg(consumer);
    if let Some((place, most_ms)) = &deferral.place {
        call.arg(place.age).arg(*most_ms);
    }
    let (verdict, due_ms, why): (i64, i64, String) = redis::from_redis_value(SCRIPT.run(link, &call).await?)?;
    Ok(match verdict {
        1 => Deferred::Delayed { due_ms: u64::try_from(due_ms).unwrap_or(0) },
        2 => Deferred::TooLate,
        3 => Deferred::Failed(ScriptFailure::new(SCRIPT.name(), &why)),
        _ => Deferred::NotOurs,
    })
}
