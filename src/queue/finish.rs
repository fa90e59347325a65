//! Ends deliveries: the typed wrapper of `lua/deliveries/finish.lua`.

use super::{
    IdIndex, Keys, Link, Source,
    admission::BATCH_LIFE_S,
    index::{enqueued_between, holder},
    script::{Script, ScriptFailure, failures, script},
};
use crate::{
    contract::{EntryId, Lane, Status},
    limits::SharedBucket,
};
use redis::RedisResult;
use serde::Serialize;
use std::{borrow::Cow, sync::LazyLock, time::Duration};

/// Maximum number of deliveries in one call of [`finish`].
pub const MAX_FINISH: usize = 256;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| script!("deliveries/finish" on "shared/atomic" on "ids/index"));

/// A dead letter to write to `{NS:P}:dead`.
#[derive(Debug, Clone, Serialize)]
pub struct NewDeadLetter {
    /// The job's JSON, without codes.
    pub job: String,
    /// The error's JSON.
    pub error: String,
    /// When the job completed, in RFC 3339.
    pub at: String,
    /// Whether the job can be replayed without an edit: `true` or `false`.
    pub replayable: &'static str,
    /// The part of the job's state that a replay needs, as JSON.
    pub state: String,
}

/// A child to enqueue.
#[derive(Debug, Clone, Serialize)]
pub struct NewChild {
    /// The child's complete JSON.
    pub job: String,
    /// The id of the child's parent.
    pub parent: String,
    /// Number of generations above the child.
    pub generation: u8,
}

/// What a completion writes in addition to its event.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Whether to push the event to the job's reply list.
    pub reply: bool,
    /// The batch that counts the job.
    pub batch: Option<String>,
    /// The dead letter to keep.
    pub dead: Option<NewDeadLetter>,
    /// The child to enqueue.
    pub child: Option<NewChild>,
}

/// How a delivery ends.
#[derive(Debug, Clone)]
pub enum FinishOp {
    /// The job completes.
    Complete {
        /// The job's id.
        id: String,
        /// The job's type. Empty if it is unknown.
        job_type: &'static str,
        /// The status of the completion.
        status: Status,
        /// The completion's event, as JSON.
        event: String,
        /// What else to write. `None` for most completions.
        extras: Option<Box<Extras>>,
    },
    /// The job is delayed until `due_us`.
    Park {
        /// When the job is due, in microseconds on Redis's clock.
        due_us: u64,
        /// The job's position in the queue of a shared bucket. It comes back earlier if that bucket has room.
        place: Option<QueuePosition>,
        /// The job's state, as JSON.
        state: String,
        /// The job's JSON.
        job: Vec<u8>,
    },
    /// The job goes back into its lane, before new jobs.
    Requeue {
        /// The job's state, as JSON.
        state: String,
        /// The job's JSON.
        job: Vec<u8>,
    },
    /// The job is a duplicate and is removed without a completion.
    Drop {
        /// The job's id, if it asks for a reply. If the first job of this id has ended, its completion is pushed again.
        reply_for: Option<String>,
    },
}

/// A bulk job's position in the queue of a shared bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePosition {
    /// The shared bucket.
    pub bucket: SharedBucket,
    /// The job's age. A lower number is older, and the oldest goes first.
    pub age: u64,
}

/// Which call marker is removed when a delivery ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MarkerRemoval {
    /// No marker is removed.
    #[default]
    Nothing,
    /// The job's marker is removed, no matter which delivery set it. The call is accounted for.
    Any,
    /// Like [`MarkerRemoval::Any`], for a delivery that set this marker when it was admitted. While the marker exists, the
    /// delivery has not ended, even if its whole lane is gone.
    Called(String),
    /// Only this marker is removed, as requested in an [`super::AdmissionRequest`]. It is not known whether it was set.
    /// A marker of another delivery must stay, because the result of that delivery's call is not known yet.
    Own(String),
}

/// The end of one delivery.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The stream entry of the delivery.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub origin: String,
    /// Which call marker is removed.
    pub unmark: MarkerRemoval,
    /// How the delivery ends.
    pub op: FinishOp,
}

#[derive(Serialize)]
struct WireExtras<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<usize>,
    reply_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<usize>,
    batch_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<&'a NewDeadLetter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a NewChild>,
}

const FIXED_KEYS: usize = 10;

/// The result of ending one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The end was written by this call.
    Ended,
    /// The delivery had already ended.
    NotOurs,
    /// A command failed. Nothing was done, and the delivery is still pending for the consumer.
    Failed(ScriptFailure),
}

/// The result of ending a batch of deliveries.
#[derive(Debug)]
pub struct Finishes {
    /// One result per delivery, in the same order.
    pub each: Vec<Finished>,
    /// Failures to write a reply, a counter or an expiry. No job depends on these.
    pub courtesies: Vec<ScriptFailure>,
}

/// Ends up to [`MAX_FINISH`] deliveries of one stream. Each is ended completely or not at all. Idempotent, so it can be
/// repeated after a lost reply.
///
/// If another program may have removed a delivery's entry, end that delivery in a call of its own. In a batch, a
/// missing entry is taken for a delivery that had already ended.
pub async fn finish(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    source: Source,
    (consumer, reply_ttl, index): (&str, Duration, IdIndex),
    batch: &[Finish],
) -> RedisResult<Finishes> {
    let reply_s = reply_ttl.as_secs().max(1);
    let mut more_keys: Vec<String> = Vec::new();
    let mut tails: Vec<String> = Vec::new();
    for one in batch {
        if let FinishOp::Complete { id, extras: Some(extras), .. } = &one.op {
            let mut place = |key: String| {
                more_keys.push(key);
                FIXED_KEYS + more_keys.len()
            };
            let wire = WireExtras {
                id,
                reply: extras.reply.then(|| place(keys.reply(id))),
                reply_s,
                batch: extras.batch.as_deref().map(|name| place(keys.batch(name))),
                batch_s: BATCH_LIFE_S,
                dead: extras.dead.as_ref(),
                next: extras.child.as_ref(),
            };
            // Strings and numbers only: serialisation cannot fail.
            tails.push(serde_json::to_string(&wire).unwrap_or_default());
        }
    }

    let replies = duplicates_replies(keys, batch, &mut more_keys);

    // Each queue is passed once, and only if a job goes there.
    let mut queues = [0; SharedBucket::ALL.len()];
    for one in batch {
        if let FinishOp::Park { place: Some(place), .. } = &one.op
            && queues[place.bucket as usize] == 0
        {
            more_keys.push(keys.waiting(place.bucket).to_owned());
            queues[place.bucket as usize] = FIXED_KEYS + more_keys.len();
        }
    }

    let mut call = SCRIPT.call(FIXED_KEYS + more_keys.len());
    call.arg(keys.stream(lane, source))
        .arg(&keys.begun)
        .arg(&keys.completions)
        .arg(&keys.delayed)
        .arg(&keys.delayed_jobs)
        .arg(keys.due(lane))
        .arg(keys.jobs(lane))
        .arg(&keys.dead)
        .arg(&keys.stats)
        .arg(&keys.index);
    for key in &more_keys {
        call.arg(key);
    }
    call.arg(batch.len()).arg(consumer);
    for one in batch {
        call.arg(one.entry.to_string());
    }
    let (mut tails, mut replies) = (tails.iter(), replies.iter());
    for one in batch {
        let mark = match &one.unmark {
            MarkerRemoval::Nothing => Cow::Borrowed(""),
            MarkerRemoval::Any => Cow::Borrowed(one.origin.as_str()),
            MarkerRemoval::Called(mark) => Cow::Owned(format!("{}\n!{mark}", one.origin)),
            MarkerRemoval::Own(mark) => Cow::Owned(format!("{}\n{mark}", one.origin)),
        };
        match &one.op {
            FinishOp::Complete { id, job_type, status, event, extras } => {
                let tail = if extras.is_some() { tails.next().map_or("", String::as_str) } else { id };
                call.arg(format!("{job_type}:{}", status.as_str())).arg(&*mark).arg(event).arg(tail);
                // A rejected job reserves no id, and a job without an id has none in the index.
                let reserves = *status != Status::Rejected && *id != one.origin;
                call.arg(if reserves { holder(&one.origin) } else { String::new() });
            }
            FinishOp::Park { due_us, place, state, job } => {
                let op = if place.is_some() { "w" } else { "p" };
                call.arg(op).arg(&*mark).arg(&one.origin).arg(millis_text(*due_us)).arg(parked(state, job));
                if let Some(place) = place {
                    call.arg(queues[place.bucket as usize]).arg(place.age);
                }
            }
            FinishOp::Requeue { state, job } => {
                call.arg("q").arg(&*mark).arg(state).arg(job);
            }
            FinishOp::Drop { reply_for: None } => {
                call.arg("x").arg(&*mark);
            }
            FinishOp::Drop { reply_for: Some(id) } => {
                call.arg("y").arg(&*mark).arg(id).arg(holder(&one.origin)).arg(replies.next()).arg(reply_s);
            }
        }
    }
    let (first_ms, last_ms) = enqueued_between(batch.iter().map(|one| one.origin.as_str()));
    call.arg(first_ms).arg(last_ms).arg(index.window_ms()).arg(index.width_ms());
    let (not_ours, failed, courtesies): (Vec<i64>, Vec<redis::Value>, Vec<String>) =
        redis::from_redis_value(SCRIPT.run(link, &call).await?)?;
    let mut each = vec![Finished::Ended; batch.len()];
    let not_ours = not_ours.into_iter().map(|number| usize::try_from(number).unwrap_or(0).wrapping_sub(1));
    let failed = failures(SCRIPT.name(), failed).into_iter().map(|(place, why)| (place, Finished::Failed(why)));
    for (place, what) in not_ours.map(|place| (place, Finished::NotOurs)).chain(failed) {
        if let Some(finished) = each.get_mut(place) {
            *finished = what;
        }
    }
    let courtesies = courtesies.iter().map(|why| ScriptFailure::new(SCRIPT.name(), why)).collect();
    Ok(Finishes { each, courtesies })
}

/// Adds the reply lists of duplicates to the keys. Returns their positions.
fn duplicates_replies(keys: &Keys, batch: &[Finish], more_keys: &mut Vec<String>) -> Vec<usize> {
    let mut places = Vec::new();
    for one in batch {
        if let FinishOp::Drop { reply_for: Some(id) } = &one.op {
            more_keys.push(keys.reply(id));
            places.push(FIXED_KEYS + more_keys.len());
        }
    }
    places
}

/// Formats microseconds as milliseconds with three decimals, for the score of a sorted set. Exact below 2^53.
pub(super) fn millis_text(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

/// Joins a delayed job in the form of `delayed:jobs`: state, newline, job. `lua/schedule/promote.lua` splits it again.
pub(super) fn parked(state: &str, job: &[u8]) -> Vec<u8> {
    [state.as_bytes(), b"\n", job].concat()
}
