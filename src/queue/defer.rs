//! The typed face of `lua/defer.lua`.

use super::{
    Keys, Link, Source,
    finish::{Place, parked},
    script::{Script, ScriptFailure, script},
};
use crate::{
    contract::{EntryId, Lane},
    limits::Bucket,
};
use redis::RedisResult;
use std::{sync::LazyLock, time::Duration};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| script!("defer" on "atomic" on "limiter"));

/// A delivery whose call was answered 429.
#[derive(Debug, Clone)]
pub struct Deferral {
    /// Which.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub origin: String,
    /// The bucket that the call spent.
    pub bucket: Bucket,
    /// What XCO asked for; without it the delay grows while 429s follow each other.
    pub retry_after: Option<Duration>,
    /// Whether the 429 is to teach the bucket its rate.
    pub learn: bool,
    /// Milliseconds on Redis's clock.
    pub deadline_ms: Option<u64>,
    /// The state's JSON, for when it comes back (its slot in the bucket reserved, unless it waits in its queue).
    pub state: String,
    /// A bulk job in a shared bucket waits in its queue, and until then at most (milliseconds on Redis's clock).
    pub place: Option<(Place, u64)>,
    /// The job's JSON.
    pub job: Vec<u8>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deferred {
    /// It waits behind the closure.
    Parked {
        /// Milliseconds on Redis's clock.
        due_ms: u64,
    },
    /// It had been ended before.
    NotOurs,
    /// Its deadline comes first: still ours, to be ended.
    TooLate,
    /// A command failed: the bucket is closed, and the delivery is still ours, to be parked.
    Failed(ScriptFailure),
}

/// Closes the bucket for all workers and parks the job behind the closure, in one step.
///
/// After a lost reply a repetition finds the job gone ([`Deferred::NotOurs`]) and closes the bucket once more, for as long.
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
    let mut call = SCRIPT.call(6 + usize::from(deferral.place.is_some()));
    call.arg(keys.stream(lane, source))
        .arg(&keys.begun)
        .arg(&keys.delayed)
        .arg(&keys.delayed_jobs)
        .arg(keys.limit(&deferral.bucket.name))
        .arg(&keys.learned);
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
        1 => Deferred::Parked { due_ms: u64::try_from(due_ms).unwrap_or(0) },
        2 => Deferred::TooLate,
        3 => Deferred::Failed(ScriptFailure::new(SCRIPT.name(), &why)),
        _ => Deferred::NotOurs,
    })
}
