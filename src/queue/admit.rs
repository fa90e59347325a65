//! The typed face of `lua/admit.lua`.

use super::{
    Keys, Link,
    script::{Script, integers},
};
use crate::{contract::EntryId, limits::Bucket};
use redis::{RedisError, RedisResult};
use std::{collections::HashMap, sync::LazyLock, time::Duration};

/// The largest batch.
pub const MAX_ADMIT: usize = 256;

static SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/limiter.lua"), include_str!("lua/admit.lua"))));

const FIXED_KEYS: usize = 2;

/// How long a batch's counters are kept after they were last touched.
pub(super) const BATCH_LIFE_S: u64 = 30 * 86_400;

/// Whether a job already holds a slot in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It must be given one.
    No,
    /// It waited for it: only a closure since can make it wait again.
    Yes,
}

/// One delivery that wants to call XCO.
#[derive(Debug, Clone)]
pub struct AdmissionRequest {
    /// Its entry.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub token: String,
    /// The id to reserve; `None` for jobs without one and for those that were accepted before.
    pub reserve_id: Option<String>,
    /// The batch to count the job in, on its first admission.
    pub count_in_batch: Option<String>,
    /// The bucket that its call spends.
    pub bucket: (Bucket, Held),
    /// The bucket of all calls.
    pub total: Option<(Bucket, Held)>,
    /// Milliseconds on Redis's clock.
    pub deadline_ms: Option<u64>,
    /// Milliseconds on Redis's clock.
    pub run_at_ms: Option<u64>,
    /// For calls that are unsafe to repeat: what tells this delivery from any other.
    pub mark: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Call now.
    Admitted,
    /// Another job has this id.
    Duplicate,
    /// Its deadline has passed.
    Expired,
    /// Its slot in its own bucket is at `due_us`, and reserved.
    Limited {
        /// Microseconds on Redis's clock.
        due_us: u64,
    },
    /// Its slot in the bucket of all calls is at `due_us`; both slots are reserved.
    LimitedByTotal {
        /// Microseconds on Redis's clock.
        due_us: u64,
    },
    /// Its `run_at` is at `due_us`.
    Scheduled {
        /// Microseconds on Redis's clock.
        due_us: u64,
    },
    /// Its limit would let it run only after its deadline.
    TooLate,
    /// An unsafe call of this job was begun by another delivery and has not ended.
    Begun,
    /// The delivery is another consumer's by now, or nobody's.
    NotOurs,
}

/// A batch's answers, in order.
#[derive(Debug)]
pub struct Admissions {
    /// Redis's clock, milliseconds.
    pub now_ms: u64,
    /// One a request.
    pub verdicts: Vec<Admission>,
}

/// Decides a batch of at most [`MAX_ADMIT`] deliveries of one stream in one round trip. Safe to repeat after a lost reply.
pub async fn admit(
    link: &mut Link,
    keys: &Keys,
    stream: &str,
    consumer: &str,
    dedupe_window: Duration,
    requests: &[AdmissionRequest],
) -> RedisResult<Admissions> {
    let mut buckets: Vec<&Bucket> = Vec::with_capacity(requests.len());
    let mut numbers: HashMap<&str, usize> = HashMap::with_capacity(requests.len());
    for request in requests {
        for (bucket, _) in std::iter::once(&request.bucket).chain(&request.total) {
            numbers.entry(bucket.name.as_str()).or_insert_with(|| {
                buckets.push(bucket);
                buckets.len()
            });
        }
    }
    let extra_keys =
        requests.iter().map(|r| usize::from(r.reserve_id.is_some()) + usize::from(r.count_in_batch.is_some()));
    let key_count = FIXED_KEYS + buckets.len() + extra_keys.sum::<usize>();

    let mut call = SCRIPT.call(key_count);
    call.arg(&keys.begun).arg(stream);
    for bucket in &buckets {
        call.arg(keys.limit(&bucket.name));
    }
    for request in requests {
        if let Some(id) = &request.reserve_id {
            call.arg(keys.id(id));
        }
        if let Some(batch) = &request.count_in_batch {
            call.arg(keys.batch(batch));
        }
    }

    let window_ms = u64::try_from(dedupe_window.as_millis()).unwrap_or(u64::MAX).max(1);
    call.arg(requests.len()).arg(buckets.len()).arg(window_ms).arg(BATCH_LIFE_S).arg(consumer);
    for bucket in &buckets {
        call.arg(bucket.interval_us).arg(bucket.burst);
    }
    let mut next_key = FIXED_KEYS + buckets.len();
    let mut position = |present: bool| {
        next_key += usize::from(present);
        if present { next_key } else { 0 }
    };
    let number = |bucket: &(Bucket, Held)| {
        let number = numbers.get(bucket.0.name.as_str()).copied().unwrap_or(0);
        let number = i64::try_from(number).unwrap_or(0);
        if bucket.1 == Held::Yes { -number } else { number }
    };
    for request in requests {
        call.arg(&request.token)
            .arg(request.entry.to_string())
            .arg(position(request.reserve_id.is_some()))
            .arg(position(request.count_in_batch.is_some()))
            .arg(number(&request.bucket))
            .arg(request.total.as_ref().map_or(0, number))
            .arg(request.deadline_ms.unwrap_or(0))
            .arg(request.run_at_ms.unwrap_or(0))
            .arg(request.mark.as_deref().unwrap_or(""));
    }

    let reply = integers(SCRIPT.run(link, &call).await?)?;
    decode(&reply, requests.len())
}

fn decode(reply: &[i64], requests: usize) -> RedisResult<Admissions> {
    let malformed =
        || RedisError::from((redis::ErrorKind::UnexpectedReturnType, "admit.lua gave another kind of answer"));
    let (now, rest) = reply.split_first().ok_or_else(malformed)?;
    if rest.len() != 2 * requests {
        return Err(malformed());
    }
    let verdicts = rest
        .chunks_exact(2)
        .map(|pair| {
            let due_us = u64::try_from(pair[1]).unwrap_or(0);
            Ok(match pair[0] {
                0 => Admission::Admitted,
                1 => Admission::Duplicate,
                2 => Admission::Expired,
                3 => Admission::Limited { due_us },
                4 => Admission::LimitedByTotal { due_us },
                5 => Admission::Scheduled { due_us },
                6 => Admission::TooLate,
                7 => Admission::Begun,
                8 => Admission::NotOurs,
                _ => return Err(malformed()),
            })
        })
        .collect::<RedisResult<Vec<_>>>()?;
    Ok(Admissions { now_ms: u64::try_from(*now).unwrap_or(0), verdicts })
}
