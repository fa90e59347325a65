//! The typed face of `lua/finish.lua`.

use super::{
    Keys, Link, Source,
    admit::BATCH_LIFE_S,
    script::{Script, ScriptFailure, failures, script},
};
use crate::{
    contract::{EntryId, Lane, Status},
    limits::SharedBucket,
};
use redis::RedisResult;
use serde::Serialize;
use std::{borrow::Cow, sync::LazyLock, time::Duration};

/// The largest batch.
pub const MAX_FINISH: usize = 256;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| script!("finish" on "atomic"));

/// A letter for `{NS:P}:dead`.
#[derive(Debug, Clone, Serialize)]
pub struct Dead {
    /// The job's JSON, codes removed.
    pub job: String,
    /// The error's JSON.
    pub error: String,
    /// RFC 3339.
    pub at: String,
    /// `true` or `false`.
    pub replayable: &'static str,
    /// What a replay must know of the job beside its JSON.
    pub state: String,
}

/// A child to enqueue.
#[derive(Debug, Clone, Serialize)]
pub struct Child {
    /// Its JSON.
    pub job: String,
    /// Its parent's id.
    pub parent: String,
    /// Generations above it.
    pub generation: u8,
}

/// What a completion brings with it, beyond the event.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Push the event to the job's reply list.
    pub reply: bool,
    /// Count it in this batch.
    pub batch: Option<String>,
    /// Keep a letter.
    pub dead: Option<Dead>,
    /// Enqueue a child.
    pub child: Option<Child>,
}

/// How a delivery ends.
#[derive(Debug, Clone)]
pub enum FinishOp {
    /// The job is over.
    Complete {
        /// Its id.
        id: String,
        /// Its type; empty where none is known.
        job_type: &'static str,
        /// How it ended.
        status: Status,
        /// The event's JSON.
        event: String,
        /// And what comes with it.
        extras: Option<Box<Extras>>,
    },
    /// It waits until `due_us`.
    Park {
        /// Microseconds on Redis's clock.
        due_us: u64,
        /// Or until there is room in a shared bucket.
        place: Option<Place>,
        /// The state's JSON.
        state: String,
        /// The job's JSON.
        job: Vec<u8>,
    },
    /// It goes back into its lane, before what is new.
    Requeue {
        /// The state's JSON.
        state: String,
        /// The job's JSON.
        job: Vec<u8>,
    },
    /// It is a duplicate, and leaves no trace.
    Drop,
}

/// A bulk job's place in the queue of a shared bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whose queue.
    pub bucket: SharedBucket,
    /// The lower, the older: the oldest goes first.
    pub age: u64,
}

/// Which mark of a begun call comes off with a delivery's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unmark {
    /// None.
    #[default]
    Nothing,
    /// The job's, whosever it is: the call is accounted for.
    Any,
    /// The same, of a delivery that set this one when it was admitted. While it stands the delivery has not ended, even where
    /// its whole lane is gone.
    Called(String),
    /// This one, as it was asked for in an [`super::AdmissionRequest`]. Whether it was set is not known, and another
    /// delivery's must stay: nobody knows yet what became of that one's call.
    Own(String),
}

/// The end of one delivery.
#[derive(Debug, Clone)]
pub struct Finish {
    /// Which.
    pub entry: EntryId,
    /// The job's origin, as text.
    pub origin: String,
    /// Which mark comes off.
    pub unmark: Unmark,
    /// How.
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
    dead: Option<&'a Dead>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a Child>,
}

const FIXED_KEYS: usize = 9;

/// What became of the end of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// It is written, by this run.
    Ended,
    /// The delivery had been ended before.
    NotOurs,
    /// A command of it failed: nothing of it was done, and the delivery is still pending for the consumer.
    Failed(ScriptFailure),
}

/// What became of a batch of ends.
#[derive(Debug)]
pub struct Finishes {
    /// One for each delivery.
    pub each: Vec<Finished>,
    /// Replies, counters and expiries that were not written; nothing waits for them.
    pub courtesies: Vec<ScriptFailure>,
}

/// Ends up to [`MAX_FINISH`] deliveries of one stream, each whole or not at all. Safe to repeat after a lost reply.
///
/// A delivery whose entry a foreign hand may have removed is to come alone: in a batch, what is not there any more is taken
/// for what was ended before.
pub async fn finish(
    link: &mut Link,
    keys: &Keys,
    lane: Lane,
    source: Source,
    (consumer, reply_ttl): (&str, Duration),
    batch: &[Finish],
) -> RedisResult<Finishes> {
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
                reply_s: reply_ttl.as_secs().max(1),
                batch: extras.batch.as_deref().map(|name| place(keys.batch(name))),
                batch_s: BATCH_LIFE_S,
                dead: extras.dead.as_ref(),
                next: extras.child.as_ref(),
            };
            // Strings and numbers: nothing that serialisation could refuse.
            tails.push(serde_json::to_string(&wire).unwrap_or_default());
        }
    }

    // Each queue once, and only where a job goes there.
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
        .arg(&keys.stats);
    for key in &more_keys {
        call.arg(key);
    }
    call.arg(batch.len()).arg(consumer);
    for one in batch {
        call.arg(one.entry.to_string());
    }
    let mut tails = tails.iter();
    for one in batch {
        let mark = match &one.unmark {
            Unmark::Nothing => Cow::Borrowed(""),
            Unmark::Any => Cow::Borrowed(one.origin.as_str()),
            Unmark::Called(mark) => Cow::Owned(format!("{}\n!{mark}", one.origin)),
            Unmark::Own(mark) => Cow::Owned(format!("{}\n{mark}", one.origin)),
        };
        match &one.op {
            FinishOp::Complete { id, job_type, status, event, extras } => {
                let tail = if extras.is_some() { tails.next().map_or("", String::as_str) } else { id };
                call.arg(format!("{job_type}:{}", status.as_str())).arg(&*mark).arg(event).arg(tail);
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
            FinishOp::Drop => {
                call.arg("x").arg(&*mark);
            }
        }
    }
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

/// Microseconds as milliseconds with three decimals: a sorted set's score, exact below 2^53.
pub(super) fn millis_text(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

/// A waiting job as `delayed:jobs` keeps it and `lua/promote.lua` takes it apart: state, newline, job.
pub(super) fn parked(state: &str, job: &[u8]) -> Vec<u8> {
    [state.as_bytes(), b"\n", job].concat()
}
