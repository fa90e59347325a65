//! Where one job is, what it waits for, until when, and how it ended.

use super::{
    DelayReason, Hold,
    delay::Delay,
    find::{Finder, Found, FoundPlace, JobsAhead},
    hold::holds,
    live::Live,
    words::words,
};
use crate::{
    config::Config,
    contract::{Lane, format_ms, look_into},
    dead_letters::masked_job,
    jobs::JobState,
    operations::{Backend, Error, MerchantScope, PastAttempt, Progress, attempts::past_attempts},
    queue::{Source, rules},
};
use redis::RedisResult;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is known of a job. Its JSON holds no customer's data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The id of the job.
    pub id: String,
    /// Its partition; `None` where the job is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u16>,
    /// Where the job is.
    #[serde(flatten)]
    pub place: JobPlace,
    /// The same in words, one sentence a line.
    pub words: Vec<String>,
}

impl Explanation {
    /// The job was found.
    pub const fn is_known(&self) -> bool {
        !matches!(self.place, JobPlace::Unknown { .. })
    }
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum JobPlace {
    /// In a lane; no worker has read it.
    Waiting {
        /// How many jobs stand before it in its stream.
        ahead: u64,
        /// Whether `ahead` is exact. Otherwise at least that many stand before it.
        ahead_is_exact: bool,
        /// It was delayed, and came back: such jobs go before new ones.
        #[serde(skip)]
        came_back: bool,
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// It was delivered, and no consumer holds it. A worker takes it up again within about two leases.
    Adrift {
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// A worker has it.
    InFlight {
        /// The worker's name in the consumer group.
        worker: String,
        /// How many times it was delivered; more than once: workers were lost while they had it.
        deliveries: u64,
        /// Milliseconds since the worker renewed its lease.
        idle_ms: u64,
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// It comes back to its lane later.
    #[serde(rename = "parked")]
    Delayed {
        /// When, RFC 3339. `None`: when an operator resumes it, or now because it is cancelled.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<String>,
        /// Milliseconds until then.
        #[serde(skip)]
        until_in_ms: Option<u64>,
        /// What it waits for.
        waits_for: DelayReason,
        /// The same in words: the end of a sentence "waits for …".
        because: String,
        /// The job.
        #[serde(flatten)]
        job: LiveJob,
    },
    /// It has a completion.
    Ended(EndedJob),
    /// Its completion is no longer kept; its dead letter is.
    Dead(DeadLetterSummary),
    /// Nothing was found.
    Unknown {
        /// What was looked through.
        searched: Searched,
    },
}

/// A job that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveJob {
    /// The job's JSON with personal data masked.
    #[serde(skip)]
    pub masked: Value,
    /// The lane that it is in, or comes back to.
    pub lane: Lane,
    /// `<lane>:<partition>:<stream entry id>` of where it entered.
    pub origin: String,
    /// When the job was enqueued, in RFC 3339.
    pub enqueued_at: String,
    /// Milliseconds since it was enqueued.
    #[serde(skip)]
    pub waited_ms: u64,
    /// `None`: no worker has read it.
    #[serde(flatten)]
    pub history: Option<History>,
    /// Its latest attempts, the oldest first; at most 8.
    #[serde(rename = "history", skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<PastAttempt>,
    /// What keeps it from running, beside its own delay.
    pub holds: Vec<Hold>,
}

/// What a job has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct History {
    /// Calls to XCO.
    pub attempts: u32,
    /// How many of them failed and count against `max_attempts`.
    #[serde(skip)]
    pub failures: u32,
    /// A call may have taken effect.
    pub in_doubt: bool,
    /// An operator cancelled it while it was delayed.
    pub cancelled: bool,
}

/// How a job ended: what its completion says, without a customer's data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndedJob {
    /// Its whole completion, for those who may see it.
    #[serde(skip)]
    pub completion: Value,
    /// Its dead letter is still kept.
    pub dead_letter: bool,
    /// `succeeded`, `failed`, `expired`, `cancelled` or `rejected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What a success brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Calls to XCO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// When the job was enqueued, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueued_at: Option<String>,
    /// When the first call was admitted, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When the job completed, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Milliseconds: `queued`, `limited`, `retrying`, `xco`, `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings_ms: Option<Value>,
    /// The batch of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<LastError>,
    /// Its latest attempts, the oldest first; at most 8. They are known where its dead letter is kept.
    #[serde(rename = "history", skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<PastAttempt>,
}

/// Why a job did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// As in the contract: `upstream`, `in_doubt`, …
    pub kind: Option<String>,
    /// For people.
    pub message: Option<String>,
}

/// What is left of a job whose completion is no longer kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterSummary {
    /// When it ended, RFC 3339.
    pub at: String,
    /// Why: the `error` of its completion.
    pub error: Value,
    /// It can be replayed as it is.
    pub replayable: bool,
    /// Its latest attempts, the oldest first; at most 8.
    #[serde(rename = "history", skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<PastAttempt>,
}

/// What was looked through without finding the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Searched {
    /// Waiting or delayed jobs.
    pub live: usize,
    /// Completions and dead letters.
    pub ended: usize,
    /// Nothing else was there to look through.
    pub everything: bool,
}

/// Looks for a job, and explains where it is. That there is no such job is no error. A job of a merchant outside of `merchants`
/// is explained as an unknown one.
///
/// # Errors
/// [`Error::Redis`].
pub async fn explain(
    backend: &mut Backend<'_>,
    config: &Config,
    id: &str,
    merchants: &MerchantScope,
    progress: &dyn Progress,
) -> Result<Explanation, Error> {
    let failed = backend.failed();
    let (partition, place) = look(backend, config, id, merchants, progress).await.map_err(failed)?;
    Ok(Explanation { id: id.to_owned(), partition, words: words(id, &place), place })
}

async fn look(
    backend: &mut Backend<'_>,
    config: &Config,
    id: &str,
    merchants: &MerchantScope,
    progress: &dyn Progress,
) -> RedisResult<(Option<u16>, JobPlace)> {
    let mut finder = Finder::new(backend, id, progress);
    let found = finder.find().await?;
    let searched = std::mem::take(&mut finder.searched);
    let now_ms = rules::now_ms(&mut backend.link).await?;
    let Some(Found { partition, place }) = found.filter(|found| merchants.covers(&found.place.json())) else {
        let searched = if merchants.is_all() {
            Searched { live: searched.live, ended: searched.ended, everything: !searched.partly }
        } else {
            // The numbers would tell an unknown job from one of another merchant.
            Searched { live: 0, ended: 0, everything: false }
        };
        return Ok((None, JobPlace::Unknown { searched }));
    };
    let place = match place {
        FoundPlace::Waiting { live, source, ahead } => {
            let (ahead, ahead_is_exact) = match ahead {
                JobsAhead::Exactly(count) => (count, true),
                JobsAhead::AtLeast(count) => (count, false),
            };
            let job = live_job(backend, config, &live, now_ms).await?;
            JobPlace::Waiting { ahead, ahead_is_exact, came_back: source == Source::Due, job }
        }
        FoundPlace::Adrift { live } => JobPlace::Adrift { job: live_job(backend, config, &live, now_ms).await? },
        FoundPlace::InFlight { live, pending } => JobPlace::InFlight {
            job: live_job(backend, config, &live, now_ms).await?,
            worker: pending.consumer,
            deliveries: pending.deliveries,
            idle_ms: pending.idle_ms,
        },
        FoundPlace::Delayed { live, due_ms } => {
            let keys = backend.keys_of(partition);
            let delay = Delay::of(backend, &keys, config, &live, (due_ms, now_ms)).await?;
            JobPlace::Delayed {
                until: delay.until_ms.map(format_ms),
                until_in_ms: delay.until_ms.map(|until_ms| until_ms.saturating_sub(now_ms)),
                waits_for: delay.reason,
                because: delay.because,
                job: live_job(backend, config, &live, now_ms).await?,
            }
        }
        FoundPlace::Ended { completion, letter } => JobPlace::Ended(EndedJob::of(&completion, letter.as_ref())),
        FoundPlace::Dead { letter } => JobPlace::Dead(DeadLetterSummary::of(&letter)),
    };
    Ok((Some(partition), place))
}

async fn live_job(backend: &mut Backend<'_>, config: &Config, live: &Live, now_ms: u64) -> RedisResult<LiveJob> {
    let enqueued_at_ms = live.origin.entry.ms;
    Ok(LiveJob {
        masked: masked_job(&String::from_utf8_lossy(&live.job)),
        lane: live.lane,
        origin: live.origin.to_string(),
        enqueued_at: format_ms(enqueued_at_ms),
        waited_ms: now_ms.saturating_sub(enqueued_at_ms),
        history: live.state.as_ref().map(|state| History {
            attempts: state.attempts,
            failures: state.failures,
            in_doubt: state.doubt,
            cancelled: state.cancelled,
        }),
        past_attempts: past_attempts(live.state.as_ref()),
        holds: holds(backend, config, live, now_ms).await?,
    })
}

impl EndedJob {
    fn of(completion: &Value, letter: Option<&BTreeMap<String, String>>) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let error = &completion["error"];
        Self {
            completion: completion.clone(),
            dead_letter: letter.is_some(),
            status: text(&completion["status"]),
            outcome: text(&completion["outcome"]),
            attempts: completion["attempts"].as_u64(),
            enqueued_at: text(&completion["enqueued_at"]),
            started_at: text(&completion["started_at"]),
            completed_at: text(&completion["completed_at"]),
            timings_ms: Some(completion["timings_ms"].clone()).filter(|timings| !timings.is_null()),
            batch: text(&completion["batch"]),
            error: error
                .is_object()
                .then(|| LastError { kind: text(&error["kind"]), message: text(&error["message"]) }),
            past_attempts: letter.map(attempts_of).unwrap_or_default(),
        }
    }
}

impl DeadLetterSummary {
    fn of(fields: &BTreeMap<String, String>) -> Self {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        Self {
            at: field("at").to_owned(),
            error: look_into(field("error")).unwrap_or_default(),
            replayable: field("replayable") == "true",
            past_attempts: attempts_of(fields),
        }
    }
}

/// The attempts that a dead letter remembers.
fn attempts_of(letter: &BTreeMap<String, String>) -> Vec<PastAttempt> {
    past_attempts(letter.get("state").and_then(|state| JobState::from_json(state.as_bytes())).as_ref())
}
