//! Where one job is, what it waits for, until when, and how it ended.

use super::{
    bounds::SearchBounds,
    delay::Delay,
    find::{Finder, Found, FoundPlace, JobsAhead},
    hold::holds,
    live::Live,
    place::{DeadLetterSummary, EndedJob, History, JobPlace, LastError, LiveJob, Searched},
    words::words,
};
use crate::{
    config::Config,
    contract::{format_ms, look_into},
    dead_letters::{masked_error, masked_job, masked_message},
    jobs::JobState,
    operations::{Backend, Error, MerchantScope, PastAttempt, Progress, attempts::past_attempts},
    queue::{Source, rules},
};
use redis::RedisResult;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is known of a job. Its JSON names the caller whose limit the job waits for, and quotes XCO's errors: [`Explanation::masked`] does
/// not.
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
    /// Without what may be about a customer: what XCO wrote, and the caller whose limit the job waits for or whom a pause is about.
    #[must_use]
    pub fn masked(self) -> Self {
        let mut masked = self.with_masked_errors();
        if let JobPlace::Delayed { waits_for, because, .. } = &mut masked.place {
            waits_for.as_str().clone_into(because);
            masked.words = vec![format!("It waits: {}.", waits_for.as_str())];
        }
        masked
    }

    /// With what XCO wrote masked.
    #[must_use]
    pub fn with_masked_errors(mut self) -> Self {
        match &mut self.place {
            JobPlace::Ended(ended) => {
                if let Some(message) = ended.error.as_mut().and_then(|error| error.message.as_mut()) {
                    *message = masked_message(message);
                }
            }
            JobPlace::Dead(letter) => letter.error = masked_error(&letter.error.to_string()),
            _ => return self,
        }
        self.words = words(&self.id, &self.place);
        self
    }

    /// The job was found.
    pub const fn is_known(&self) -> bool {
        !matches!(self.place, JobPlace::Unknown { .. })
    }

    /// The job was not found, and not everything was looked through.
    pub const fn has_more(&self) -> bool {
        matches!(self.place, JobPlace::Unknown { searched: Searched { everything: false, .. } })
    }
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
    explain_within(backend, config, id, merchants, SearchBounds::default(), progress).await
}

/// [`explain`] with other bounds of the search. The index of ids leads at once to jobs that a worker has read, and to those that ended
/// recently: for them, bounds do not matter.
///
/// # Errors
/// [`Error::Redis`].
pub async fn explain_within(
    backend: &mut Backend<'_>,
    config: &Config,
    id: &str,
    merchants: &MerchantScope,
    bounds: SearchBounds,
    progress: &dyn Progress,
) -> Result<Explanation, Error> {
    let failed = backend.failed();
    let (partition, place) = look(backend, config, id, merchants, (bounds, progress)).await.map_err(failed)?;
    Ok(Explanation { id: id.to_owned(), partition, words: words(id, &place), place })
}

async fn look(
    backend: &mut Backend<'_>,
    config: &Config,
    id: &str,
    merchants: &MerchantScope,
    (bounds, progress): (SearchBounds, &dyn Progress),
) -> RedisResult<(Option<u16>, JobPlace)> {
    let mut finder = Finder::new(backend, id, progress).within(bounds);
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
        parent_id: live.state.as_ref().and_then(|state| state.parent_id.clone()),
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
