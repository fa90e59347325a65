//! Admission of deliveries: the typed wrapper of `lua/admission/admit.lua`.

use super::{
    IdIndex, Keys, Link,
    index::{enqueued_between, holder},
    script::{Script, integers, script},
};
use crate::{
    contract::EntryId,
    limits::{Bucket, SharedBucket, Turn},
};
use redis::{RedisError, RedisResult};
use std::{collections::HashMap, sync::LazyLock};

/// Maximum number of deliveries in one call of [`admit`].
pub const MAX_ADMIT: usize = 256;

static SCRIPT: LazyLock<Script> = LazyLock::new(
    || script!("admission/admit" on "shared/atomic" on "ids/index" on "ids/reserve" on "limiter/limiter" on "limiter/turns" on "limiter/recent"),
);

const FIXED_KEYS: usize = 8;

/// Position of the first queue in the script's `KEYS`.
const QUEUE_KEYS: usize = 3;

/// How long a batch's counters are kept after the last change, in seconds.
pub(super) const BATCH_LIFE_S: u64 = 30 * 86_400;

/// Where callers' buckets without a history are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketPlace {
    /// Each to its own key, where workers of every version look.
    OwnKey,
    /// Together to a hash, which costs less. All workers must look there.
    Recent,
}

/// The request of one delivery to call XCO.
#[derive(Debug, Clone)]
pub struct AdmissionRequest {
    /// The stream entry of the delivery.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub token: String,
    /// The id to reserve. `None` for jobs without an id and for jobs that were accepted before.
    pub reserve_id: Option<String>,
    /// The batch that counts the job as accepted, on its first admission.
    pub count_in_batch: Option<String>,
    /// The bucket that the call uses, and the job's turn there if it has a reservation.
    pub bucket: (Bucket, Option<Turn>),
    /// The bucket of all calls, if one is configured, and the job's turn there if it has a reservation.
    pub total: Option<(Bucket, Option<Turn>)>,
    /// A bulk job's position in the queues of shared buckets, if it uses one. A lower number is older.
    pub bulk_age: Option<u64>,
    /// The deadline, in milliseconds on Redis's clock.
    pub deadline_ms: Option<u64>,
    /// The `run_at`, in milliseconds on Redis's clock.
    pub run_at_ms: Option<u64>,
    /// The call marker, for calls that are unsafe to repeat. It is unique to this delivery.
    pub mark: Option<String>,
    /// The job must be delayed in any case. If it could call now, it gets a reservation for now.
    pub aside: bool,
}

/// The answer to an admission request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The job may call now.
    Admitted,
    /// Another job has reserved this id.
    Duplicate,
    /// The deadline has passed.
    Expired,
    /// The job has a reservation in its own bucket at `due_us`.
    Limited {
        /// The time of the reservation, in microseconds on Redis's clock.
        due_us: u64,
        /// The job's turn.
        turn: Turn,
    },
    /// The job has a reservation in the bucket of all calls at `due_us`. It keeps its reservation in its own bucket.
    LimitedByTotal {
        /// The time of the reservation, in microseconds on Redis's clock.
        due_us: u64,
        /// The job's turn in the bucket of all calls.
        turn: Turn,
    },
    /// The job came for its reservation but must wait until `due_us`: it came before its turn, because a 429 or late jobs
    /// moved it, or the bucket has no room.
    Early {
        /// When it is the job's turn, in microseconds on Redis's clock.
        due_us: u64,
        /// The job's turn, which is a new one only if it came after it.
        turn: Turn,
    },
    /// The same in the bucket of all calls.
    EarlyForTotal {
        /// When it is the job's turn, in microseconds on Redis's clock.
        due_us: u64,
        /// The job's turn there.
        turn: Turn,
    },
    /// A bulk job must wait in the queue of its own bucket. Nothing is reserved.
    Queued,
    /// A bulk job must wait in the queue of the bucket of all calls. If its own bucket is a caller's, it has a
    /// reservation there.
    QueuedByTotal,
    /// The job's `run_at` is at `due_us`.
    Scheduled {
        /// The time of `run_at`, in microseconds on Redis's clock.
        due_us: u64,
    },
    /// The limit would let the job run only after its deadline.
    TooLate,
    /// Another delivery of this job began an unsafe call that has not ended.
    Begun,
    /// The delivery now belongs to another consumer or to none, or this Redis does not know it.
    NotOurs,
}

/// Code of an answer that covers the whole batch: the request must be repeated with entry ids.
const ASK_WITH_ENTRIES: i64 = 12;

/// The answers to a batch of requests.
#[derive(Debug)]
pub struct Admissions {
    /// Redis's clock, in milliseconds.
    pub now_ms: u64,
    /// One answer per request, in the same order.
    pub verdicts: Vec<Admission>,
}

/// Requests about deliveries of one stream, at most [`MAX_ADMIT`].
#[derive(Debug, Clone, Copy)]
pub struct AdmissionBatch<'a> {
    /// The key of the stream.
    pub stream: &'a str,
    /// The consumer whose deliveries they are.
    pub consumer: &'a str,
    /// Number of times that these requests were made, this time included.
    pub asking: u32,
    /// Where callers' buckets are written. They are found wherever they are.
    pub place: BucketPlace,
    /// One request for each delivery.
    pub requests: &'a [AdmissionRequest],
}

/// Decides about a batch in one round trip. Idempotent. After a lost reply, retry with `asking + 1`: a delayed older request
/// then cannot undo a newer decision.
pub async fn admit(link: &mut Link, keys: &Keys, index: IdIndex, batch: AdmissionBatch<'_>) -> RedisResult<Admissions> {
    // Entry ids are needed only if Redis does not know the youngest entry.
    let reply = run(link, keys, index, batch, false).await?;
    if reply.get(1..) != Some(&[0, ASK_WITH_ENTRIES, 0, 0]) {
        return decode(&reply, batch.requests.len());
    }
    let reply = run(link, keys, index, batch, true).await?;
    decode(&reply, batch.requests.len())
}

async fn run(
    link: &mut Link,
    keys: &Keys,
    index: IdIndex,
    batch: AdmissionBatch<'_>,
    with_entries: bool,
) -> RedisResult<Vec<i64>> {
    let AdmissionBatch { stream, consumer, asking, place, requests } = batch;
    let groups = RateGroups::of(requests);
    let batches = requests.iter().filter_map(|request| request.count_in_batch.as_deref());
    let bucket_count: usize = groups.0.iter().map(|group| group.buckets.len()).sum();

    let mut call = SCRIPT.call(FIXED_KEYS + bucket_count + batches.clone().count());
    call.arg(&keys.begun).arg(stream);
    for bucket in SharedBucket::ALL {
        call.arg(keys.waiting(bucket));
    }
    call.arg(&keys.ids).arg(&keys.index).arg(&keys.recent);
    for bucket in groups.0.iter().flat_map(|group| &group.buckets) {
        call.arg(keys.limit(bucket));
    }
    for batch in batches {
        call.arg(keys.batch(batch));
    }

    call.arg(requests.len()).arg(groups.0.len()).arg(index.window_ms()).arg(BATCH_LIFE_S).arg(consumer).arg(asking);
    let with_id = || requests.iter().filter(|request| request.reserve_id.is_some());
    let youngest = with_id().map(|request| request.entry).max();
    call.arg(youngest.map_or_else(String::new, |entry| entry.to_string()));
    call.arg(with_id().count()).arg(u8::from(with_entries)).arg(index.width_ms()).arg(index.life_ms());
    let (first_ms, last_ms) = enqueued_between(with_id().map(|request| request.token.as_str()));
    call.arg(first_ms).arg(last_ms).arg(u8::from(place == BucketPlace::Recent));
    let mut before = 0;
    let mut firsts = Vec::with_capacity(groups.0.len());
    for group in &groups.0 {
        let Bucket { interval_us, tolerance_us, slack_us, shared, .. } = group.rate;
        call.arg(group.buckets.len()).arg(interval_us).arg(tolerance_us).arg(slack_us);
        call.arg(shared.map_or(0, |bucket| QUEUE_KEYS + bucket as usize));
        firsts.push(before);
        before += group.buckets.len();
    }
    for request in requests {
        if let Some(id) = &request.reserve_id {
            call.arg(id).arg(holder(&request.token));
        }
    }
    let number = |bucket: &(Bucket, Option<Turn>)| {
        let place = groups.place(&bucket.0).map_or(0, |(group, place)| firsts[group] + place + 1);
        let number = i64::try_from(place).unwrap_or(0);
        if bucket.1.is_some() { -number } else { number }
    };
    for request in requests {
        let turn = request.bucket.1;
        let total_turn = request.total.as_ref().and_then(|(_, turn)| *turn);
        let mut has = [0_u8; 10];
        let mut letters = 0;
        for (letter, present) in [
            (b'i', request.reserve_id.is_some()),
            (b'c', request.count_in_batch.is_some()),
            (b't', request.total.is_some()),
            (b'd', request.deadline_ms.is_some()),
            (b'r', request.run_at_ms.is_some()),
            (b'm', request.mark.is_some()),
            (b's', turn.is_some()),
            (b'u', total_turn.is_some()),
            (b'q', request.bulk_age.is_some()),
            (b'a', request.aside),
        ] {
            has[letters] = letter;
            letters += usize::from(present);
        }
        call.arg(&has[..letters]).arg(number(&request.bucket));
        if with_entries && request.reserve_id.is_some() {
            call.arg(request.entry.to_string());
        }
        if let Some(total) = &request.total {
            call.arg(number(total));
        }
        if let Some(deadline_ms) = request.deadline_ms {
            call.arg(deadline_ms);
        }
        if let Some(run_at_ms) = request.run_at_ms {
            call.arg(run_at_ms);
        }
        if let Some(mark) = &request.mark {
            call.arg(mark).arg(request.entry.to_string()).arg(&request.token);
        }
        for turn in [turn, total_turn].into_iter().flatten() {
            call.arg(turn.number());
        }
        if let Some(age) = request.bulk_age {
            call.arg(age);
        }
    }

    integers(SCRIPT.run(link, &call).await?)
}

/// The buckets of a batch, without duplicates, grouped by rate. There are few different rates.
struct RateGroups<'a>(Vec<RateGroup<'a>>);

struct RateGroup<'a> {
    /// Any bucket of the group, for its rate.
    rate: &'a Bucket,
    buckets: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
}

impl<'a> RateGroups<'a> {
    fn of(requests: &'a [AdmissionRequest]) -> Self {
        let mut groups: Vec<RateGroup<'a>> = Vec::new();
        for (bucket, _) in requests.iter().flat_map(|request| std::iter::once(&request.bucket).chain(&request.total)) {
            let known = groups.iter().position(|group| group.has_rate_of(bucket));
            let number = known.unwrap_or_else(|| {
                groups.push(RateGroup {
                    rate: bucket,
                    buckets: Vec::with_capacity(requests.len()),
                    places: HashMap::with_capacity(requests.len()),
                });
                groups.len() - 1
            });
            let RateGroup { buckets, places, .. } = &mut groups[number];
            places.entry(&bucket.name).or_insert_with(|| {
                buckets.push(&bucket.name);
                buckets.len() - 1
            });
        }
        Self(groups)
    }

    /// Returns the index of a bucket's group, and the bucket's index within it.
    fn place(&self, bucket: &Bucket) -> Option<(usize, usize)> {
        let group = self.0.iter().position(|group| group.has_rate_of(bucket))?;
        self.0[group].places.get(bucket.name.as_str()).map(|place| (group, *place))
    }
}

impl RateGroup<'_> {
    /// Compares interval, tolerance and kind. The slack follows from them, because all buckets have the same margin.
    fn has_rate_of(&self, bucket: &Bucket) -> bool {
        let Bucket { interval_us, tolerance_us, shared, .. } = self.rate;
        *interval_us == bucket.interval_us && *tolerance_us == bucket.tolerance_us && *shared == bucket.shared
    }
}

fn decode(reply: &[i64], requests: usize) -> RedisResult<Admissions> {
    let malformed =
        || RedisError::from((redis::ErrorKind::UnexpectedReturnType, "admit.lua returned an unexpected answer"));
    let (now, rest) = reply.split_first().ok_or_else(malformed)?;
    let mut verdicts = vec![Admission::Admitted; requests];
    let exceptions = rest.chunks_exact(4);
    if !exceptions.remainder().is_empty() {
        return Err(malformed());
    }
    for exception in exceptions {
        let due_us = u64::try_from(exception[2]).unwrap_or(0);
        let turn = Turn::new(u64::try_from(exception[3]).unwrap_or(0));
        let place = usize::try_from(exception[0]).unwrap_or(0).wrapping_sub(1);
        *verdicts.get_mut(place).ok_or_else(malformed)? = match exception[1] {
            1 => Admission::Duplicate,
            2 => Admission::Expired,
            3 => Admission::Limited { due_us, turn },
            4 => Admission::LimitedByTotal { due_us, turn },
            5 => Admission::Scheduled { due_us },
            6 => Admission::TooLate,
            7 => Admission::Begun,
            8 => Admission::NotOurs,
            9 => Admission::Queued,
            10 => Admission::QueuedByTotal,
            11 => Admission::Early { due_us, turn },
            13 => Admission::EarlyForTotal { due_us, turn },
            _ => return Err(malformed()),
        };
    }
    Ok(Admissions { now_ms: u64::try_from(*now).unwrap_or(0), verdicts })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_names_the_exceptions_only() {
        let admissions = decode(&[77, 2, 3, 5000, 9, 3, 1, 0, 0], 3).unwrap();
        assert_eq!(admissions.now_ms, 77);
        let limited = Admission::Limited { due_us: 5000, turn: Turn::new(9) };
        let expected = [Admission::Admitted, limited, Admission::Duplicate];
        assert_eq!(admissions.verdicts, expected);
        for malformed in
            [&[][..], &[77, 1], &[77, 0, 1, 0, 0], &[77, 4, 1, 0, 0], &[77, 1, 99, 0, 0], &[77, -1, 1, 0, 0]]
        {
            assert!(decode(malformed, 3).is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn buckets_of_one_rate_stand_together_each_once() {
        let bucket = |name: &str, interval_us| Bucket {
            name: name.to_owned(),
            interval_us,
            tolerance_us: 0,
            slack_us: 0,
            shared: None,
        };
        let request = |name: &str, interval_us| AdmissionRequest {
            entry: EntryId { ms: 1, seq: 0 },
            token: String::new(),
            reserve_id: None,
            count_in_batch: None,
            bucket: (bucket(name, interval_us), None),
            total: Some((bucket("total", 9), None)),
            bulk_age: None,
            deadline_ms: None,
            run_at_ms: None,
            mark: None,
            aside: false,
        };
        let requests = [request("a", 1), request("b", 2), request("a", 1), request("c", 1)];
        let groups = RateGroups::of(&requests);
        let buckets: Vec<_> = groups.0.iter().map(|group| group.buckets.clone()).collect();
        assert_eq!(buckets, [vec!["a", "c"], vec!["total"], vec!["b"]]);
        assert_eq!(groups.place(&bucket("c", 1)), Some((0, 1)));
        assert_eq!(groups.place(&bucket("c", 2)), None);
    }
}
