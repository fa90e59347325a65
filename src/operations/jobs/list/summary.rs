//! What a list says of a job.

use super::{
    JobFilter, Stage,
    filter::{Sieve, job_type_of},
};
use crate::{
    contract::{DelayReason, ErrorKind, JobType, Lane, Status, format_ms, look_into},
    dead_letters::DeadLetter,
    jobs::waits_for,
    operations::jobs::{find::FoundPlace, live::Live},
    queue::{list::CompletionEntry, rules::DelayedJob},
    rules::NO_END_MS,
};
use serde::Serialize;
use serde_json::Value;

/// Longest text of a job that a list repeats, in bytes. An id is shorter.
const MAX_TEXT_BYTES: usize = 256;

/// One job without personal data. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobSummary {
    /// The id of the job.
    pub id: String,
    /// How far it is.
    #[serde(rename = "state")]
    pub stage: Stage,
    /// The job type; `None` if it has none that is known.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// The lane that it is in or comes back to; `None` if it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Since when, in RFC 3339: in its lane, delayed, or ended.
    pub since: String,
    /// What a delayed job waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<DelayReason>,
    /// Until when, in RFC 3339. `None`: now, or until an operator resumes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The status of its completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The outcome of its completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The kind of the error that it ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorKind>,
    /// Calls to XCO, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// The batch of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
}

impl JobSummary {
    const fn ended(id: String) -> Self {
        Self {
            id,
            stage: Stage::Ended,
            job_type: None,
            lane: None,
            since: String::new(),
            waits_for: None,
            until: None,
            status: None,
            outcome: None,
            error: None,
            attempts: None,
            batch: None,
        }
    }
}

/// A job as it was read, before it is known to match.
pub(super) enum Seen {
    Live {
        stage: Stage,
        due_ms: Option<u64>,
        live: Live,
    },
    Completion(CompletionEntry),
    /// A completion that was found by its id.
    Ended(Box<Value>),
    DeadLetter(DeadLetter),
    /// It has moved, or is not a job.
    Nothing,
}

impl Seen {
    /// A member of `delayed` with that score. `None`: it has moved meanwhile.
    pub(super) fn delayed(score: f64, parked: Option<DelayedJob>) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time; the cast saturates")]
        let due_ms = Some(score.ceil() as u64);
        let live = parked.map(Live::delayed);
        live.map_or(Self::Nothing, |live| Self::Live { stage: Stage::Delayed, due_ms, live })
    }

    /// A job that was found by its id.
    pub(super) fn found(place: FoundPlace) -> Self {
        match place {
            FoundPlace::Waiting { live, .. } => Self::Live { stage: Stage::Waiting, due_ms: None, live },
            FoundPlace::Adrift { live } | FoundPlace::InFlight { live, .. } => {
                Self::Live { stage: Stage::Running, due_ms: None, live }
            }
            FoundPlace::Delayed { live, due_ms } => Self::Live { stage: Stage::Delayed, due_ms: Some(due_ms), live },
            FoundPlace::Ended { completion, .. } => Self::Ended(completion),
            // The index of ids leads to completions.
            FoundPlace::Dead { .. } => Self::Nothing,
        }
    }
}

/// Says what a list says of the jobs that match a filter.
pub(super) struct Summariser<'a> {
    filter: &'a JobFilter,
    sieve: Sieve,
    /// Jobs that have been where they are since before do not match. In milliseconds.
    pub(super) since_ms: u64,
}

impl<'a> Summariser<'a> {
    pub(super) fn new(filter: &'a JobFilter, since_ms: u64) -> Self {
        Self { filter, sieve: Sieve::new(filter), since_ms }
    }

    /// What the list says of a job; `None` if it does not match.
    pub(super) fn summary(&self, seen: Seen) -> Option<JobSummary> {
        match seen {
            Seen::Nothing => None,
            Seen::Live { stage, due_ms, live } => self.of_live(stage, due_ms, &live),
            Seen::Completion(CompletionEntry { id, job_type, status, event, .. }) => {
                // The fields save most completions from being parsed.
                let is_wanted = self.filter.wants_status(&status)
                    && self.filter.id.as_ref().is_none_or(|wanted| *wanted == id)
                    && self.filter.wants_type(JobType::from_name(&job_type));
                let json = if is_wanted && !event.is_empty() { self.parse(&event)? } else { return None };
                self.of_completion(id, &status, &json)
            }
            Seen::Ended(json) => {
                let id = short(&json["id"])?;
                let is_wanted = self.filter.wants(Stage::Ended);
                let summary = self.of_completion(id, json["status"].as_str().unwrap_or_default(), &json);
                summary.filter(|ended| is_wanted && ended.since >= format_ms(self.since_ms))
            }
            Seen::DeadLetter(letter) => self.of_dead_letter(letter),
        }
    }

    fn of_live(&self, stage: Stage, due_ms: Option<u64>, live: &Live) -> Option<JobSummary> {
        let filter = self.filter;
        if !filter.wants(stage) || !filter.wants_lane(live.lane) || live.since_ms < self.since_ms {
            return None;
        }
        let json = self.parse(&live.job)?;
        let id = short(&json["id"]).unwrap_or_else(|| live.origin.to_string());
        let has_end = due_ms.filter(|due_ms| *due_ms < NO_END_MS);
        let waits_for = due_ms.map(|_| waits_for(live.state.as_ref()));
        filter.fits(&id, &json).then(|| JobSummary {
            id,
            stage,
            job_type: job_type_of(&json),
            lane: Some(live.lane),
            since: format_ms(live.since_ms),
            waits_for,
            until: has_end.filter(|_| waits_for != Some(DelayReason::Cancelled)).map(format_ms),
            status: None,
            outcome: None,
            error: None,
            attempts: live.state.as_ref().map(|state| u64::from(state.attempts)),
            batch: short(&json["batch"]),
        })
    }

    fn of_completion(&self, id: String, status: &str, json: &Value) -> Option<JobSummary> {
        let is_wanted = self.filter.wants_status(status) && self.filter.fits(&id, json);
        is_wanted.then(|| JobSummary {
            job_type: job_type_of(json),
            since: short(&json["completed_at"]).unwrap_or_default(),
            status: Status::from_name(status),
            outcome: short(&json["outcome"]),
            error: kind_of(&json["error"]),
            attempts: json["attempts"].as_u64(),
            batch: short(&json["batch"]),
            ..JobSummary::ended(id)
        })
    }

    fn of_dead_letter(&self, letter: DeadLetter) -> Option<JobSummary> {
        let error = look_into(&letter.error).and_then(|error| kind_of(&error));
        let is_rejected = error.is_some_and(ErrorKind::is_rejection);
        let status = if is_rejected { Status::Rejected } else { Status::Failed };
        let json = self.parse(letter.job.as_bytes())?;
        let is_wanted = self.filter.wants_status(status.as_str()) && self.filter.fits(&letter.id, &json);
        is_wanted.then(|| JobSummary {
            job_type: job_type_of(&json),
            since: letter.at,
            status: Some(status),
            error,
            batch: short(&json["batch"]),
            ..JobSummary::ended(letter.id)
        })
    }

    /// The JSON of a job that may match. What is not JSON is `null`: a worker would reject it.
    fn parse(&self, json: &[u8]) -> Option<Value> {
        self.sieve.lets_through(json).then(|| std::str::from_utf8(json).ok().and_then(look_into).unwrap_or_default())
    }
}

/// The kind of an error, if it is a known one.
fn kind_of(error: &Value) -> Option<ErrorKind> {
    serde_json::from_value(error["kind"].clone()).ok()
}

/// A text of a job, unless it is longer than any valid one.
fn short(value: &Value) -> Option<String> {
    value.as_str().filter(|text| (1..=MAX_TEXT_BYTES).contains(&text.len())).map(str::to_owned)
}
