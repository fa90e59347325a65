//! Lists jobs that wait, run, are delayed or have ended, page by page and in bounded memory.

mod cursor;
mod filter;

pub use cursor::ListCursor;
pub use filter::{JobFilter, Stage};

use super::{DelayReason, find::Live};
use crate::{
    contract::{EntryId, ErrorKind, JobType, Lane, Status, format_ms, look_into},
    dead_letters::{DeadLetter, IdRange},
    operations::{Backend, Error, Progress},
    queue::{
        RawEntry,
        dead_letters::{DeadLetterReader, ReadOrder},
        find,
        list::{self, CompletionEntry, DelayedPosition, FIRST_COUNT, next_count},
        rules::DelayedJob,
    },
    rules::NO_END_MS,
};
use cursor::{FoundPlace, Position};
use filter::{Sieve, job_type_of};
use redis::RedisResult;
use serde::Serialize;
use serde_json::Value;

/// Maximum number of jobs of one page.
pub const MOST_LISTED: usize = 1_000;

/// Longest text of a job that a list repeats, in bytes. An id is shorter.
const MAX_TEXT_BYTES: usize = 256;

/// Which jobs are listed.
#[derive(Debug, Clone)]
pub struct JobListRequest {
    /// Those that match.
    pub filter: JobFilter,
    /// Maximum number of jobs; at most [`MOST_LISTED`].
    pub limit: usize,
    /// Maximum number of jobs that are read for it.
    pub look_at_most: u64,
    /// Begin after this place; `None`: at the beginning.
    pub cursor: Option<ListCursor>,
}

/// One page of jobs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobList {
    /// The jobs, at most as many as were asked for.
    pub jobs: Vec<JobSummary>,
    /// How many jobs were read for it.
    pub looked_at: u64,
    /// All jobs were read, with the pages before. Otherwise `cursor` goes on.
    pub complete: bool,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<ListCursor>,
}

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

/// Lists jobs: first those in the lanes, in the order in which workers read them, then the delayed ones by due time, then the
/// ended ones, the newest first; each partition by partition. A job that moves during the list may be in it twice or not at all.
///
/// A completion holds no contact but that of a user whom XCO returned. With an email address or a phone number, ended jobs are
/// therefore found by such a user, and by their dead letters.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(
    backend: &mut Backend<'_>,
    request: &JobListRequest,
    progress: &dyn Progress,
) -> Result<JobList, Error> {
    let failed = backend.failed();
    Walk::new(request).run(backend, progress).await.map_err(failed)
}

/// A job as it was read, before it is known to match.
struct Row {
    at: Position,
    seen: Seen,
}

enum Seen {
    Live {
        stage: Stage,
        since_ms: Option<u64>,
        due_ms: Option<u64>,
        live: Live,
    },
    Completion(CompletionEntry),
    DeadLetter(DeadLetter),
    /// It has moved, or is not a job.
    Nothing,
}

/// Reads the places that may have matching jobs, one page after the other.
struct Walk<'a> {
    request: &'a JobListRequest,
    sieve: Sieve,
    at: ListCursor,
    /// Number of entries of the next page.
    count: usize,
    list: JobList,
}

impl<'a> Walk<'a> {
    fn new(request: &'a JobListRequest) -> Self {
        let start = ListCursor { place: FoundPlace::ALL[0], partition: 0, after: None };
        Self {
            request,
            sieve: Sieve::new(&request.filter),
            at: request.cursor.unwrap_or(start),
            count: FIRST_COUNT,
            list: JobList { jobs: Vec::new(), looked_at: 0, complete: false, cursor: None },
        }
    }

    async fn run(mut self, backend: &mut Backend<'_>, progress: &dyn Progress) -> RedisResult<JobList> {
        let (first, mut partition) = (self.at.place.index(), self.at.partition);
        for place in FoundPlace::ALL.into_iter().skip(first).filter(|place| wants(&self.request.filter, *place)) {
            if place != self.at.place {
                partition = 0;
            }
            for partition in partition..backend.partitions() {
                if (place, partition) != (self.at.place, self.at.partition) {
                    self.at = ListCursor { place, partition, after: None };
                }
                self.count = FIRST_COUNT;
                let is_full = self.place(backend, progress).await?;
                if is_full {
                    self.list.cursor = Some(self.at);
                    return Ok(self.list);
                }
            }
        }
        self.list.complete = true;
        Ok(self.list)
    }

    /// Reads one place of one partition. Whether the list ends within it, because it is full or enough was read.
    async fn place(&mut self, backend: &mut Backend<'_>, progress: &dyn Progress) -> RedisResult<bool> {
        let keys = backend.keys_of(self.at.partition);
        let read = match self.at.place {
            FoundPlace::Stream(lane, source) => find::last_read(&mut backend.link, keys.stream(lane, source)).await?,
            FoundPlace::Delayed | FoundPlace::Completions | FoundPlace::DeadLetters => None,
        };
        loop {
            let page = self.page(backend, read).await?;
            if page.is_empty() {
                return Ok(false);
            }
            progress.advance(u64::try_from(page.len()).unwrap_or(0));
            for row in page {
                if self.list.looked_at >= self.request.look_at_most || self.list.jobs.len() >= self.limit() {
                    return Ok(true);
                }
                self.list.looked_at += 1;
                self.at.after = Some(row.at);
                self.list.jobs.extend(self.summary(row.seen));
            }
        }
    }

    fn limit(&self) -> usize {
        self.request.limit.clamp(1, MOST_LISTED)
    }

    /// The rows after the current place. `read` is the entry that workers read last, in a stream.
    async fn page(&mut self, backend: &mut Backend<'_>, read: Option<EntryId>) -> RedisResult<Vec<Row>> {
        let (filter, keys, count) = (&self.request.filter, backend.keys_of(self.at.partition), self.count);
        let after = self.at.after;
        let link = &mut backend.link;
        let (rows, bytes): (Vec<Row>, usize) = match self.at.place {
            FoundPlace::Stream(lane, source) => {
                let mut after = after.and_then(Position::entry);
                if !filter.wants(Stage::InFlight) {
                    after = after.max(read);
                }
                let mut page = find::page(link, &keys, lane, source, after, count).await?;
                let is_read = |entry: &RawEntry| read.is_some_and(|read| entry.id <= read);
                if !filter.wants(Stage::Waiting) {
                    page.retain(is_read);
                }
                let bytes = page.iter().map(|entry| entry.job.len() + 200).sum();
                let row = |entry: RawEntry| {
                    let stage = if is_read(&entry) { Stage::InFlight } else { Stage::Waiting };
                    let (at, since_ms) = (Position::Entry(entry.id), Some(entry.id.ms));
                    let live = Live::in_stream(entry, keys.partition);
                    Row { at, seen: Seen::Live { stage, since_ms, due_ms: None, live } }
                };
                (page.into_iter().map(row).collect(), bytes)
            }
            FoundPlace::Delayed => {
                let after = after.and_then(Position::delayed);
                let page = list::delayed_page(link, &keys, after, count).await?;
                let size = |parked: &DelayedJob| parked.state.len() + parked.job.len() + 100;
                let bytes = page.iter().filter_map(|(_, parked)| parked.as_ref()).map(size).sum();
                (page.into_iter().map(|(at, parked)| delayed(at, parked)).collect(), bytes)
            }
            FoundPlace::Completions => {
                let before = after.and_then(Position::entry);
                let page = list::completions_page(link, &keys, before, count).await?;
                let bytes = page.iter().map(|completion| completion.event.len() + 200).sum();
                let row = |completion: CompletionEntry| Row {
                    at: Position::Entry(completion.entry),
                    seen: Seen::Completion(completion),
                };
                (page.into_iter().map(row).collect(), bytes)
            }
            FoundPlace::DeadLetters => {
                let newest = EntryId { ms: u64::MAX, seq: u64::MAX };
                let oldest = EntryId { ms: 0, seq: 0 };
                let Some(last) = after.and_then(Position::entry).map_or(Some(newest), EntryId::before) else {
                    return Ok(Vec::new());
                };
                let stretch = IdRange { first: oldest, last };
                let page = DeadLetterReader::new(keys, stretch, ReadOrder::NewestFirst).next(link).await?;
                let row =
                    |letter: DeadLetter| Row { at: Position::Entry(letter.entry), seen: Seen::DeadLetter(letter) };
                (page.into_iter().map(row).collect(), 0)
            }
        };
        self.count = next_count(bytes, rows.len());
        Ok(rows)
    }

    /// What the list says of a job; `None` if it does not match.
    fn summary(&self, seen: Seen) -> Option<JobSummary> {
        let filter = &self.request.filter;
        match seen {
            Seen::Nothing => None,
            Seen::Live { stage, since_ms, due_ms, live } => {
                if !filter.wants_lane(live.lane) {
                    return None;
                }
                let json = self.parse(&live.job)?;
                let origin = live.origin.to_string();
                let id = short(&json["id"]).unwrap_or(origin);
                let has_end = due_ms.filter(|due_ms| *due_ms < NO_END_MS);
                let waits_for = due_ms.map(|_| DelayReason::now(live.state.as_ref()));
                filter.fits(&id, &json).then(|| JobSummary {
                    id,
                    stage,
                    job_type: job_type_of(&json),
                    lane: Some(live.lane),
                    since: format_ms(since_ms.unwrap_or(live.origin.entry.ms)),
                    waits_for,
                    until: has_end.filter(|_| waits_for != Some(DelayReason::Cancelled)).map(format_ms),
                    status: None,
                    outcome: None,
                    error: None,
                    attempts: live.state.as_ref().map(|state| u64::from(state.attempts)),
                    batch: short(&json["batch"]),
                })
            }
            Seen::Completion(CompletionEntry { id, job_type, status, event, .. }) => {
                let is_wanted = filter.wants_status(&status)
                    && filter.id.as_ref().is_none_or(|wanted| *wanted == id)
                    && (filter.job_type.is_empty() || filter.job_type.iter().any(|known| known.as_str() == job_type));
                let json = if is_wanted && !event.is_empty() { self.parse(&event)? } else { return None };
                filter.fits(&id, &json).then(|| JobSummary {
                    job_type: job_type_of(&json),
                    since: short(&json["completed_at"]).unwrap_or_default(),
                    status: Status::from_name(&status),
                    outcome: short(&json["outcome"]),
                    error: kind_of(&json["error"]),
                    attempts: json["attempts"].as_u64(),
                    batch: short(&json["batch"]),
                    ..JobSummary::ended(id)
                })
            }
            Seen::DeadLetter(letter) => {
                let error = look_into(&letter.error).and_then(|error| kind_of(&error));
                let is_rejected = error.is_some_and(ErrorKind::is_rejection);
                let status = if is_rejected { Status::Rejected } else { Status::Failed };
                let json = self.parse(letter.job.as_bytes())?;
                let is_wanted = filter.wants_status(status.as_str()) && filter.fits(&letter.id, &json);
                is_wanted.then(|| JobSummary {
                    job_type: job_type_of(&json),
                    since: letter.at,
                    status: Some(status),
                    error,
                    batch: short(&json["batch"]),
                    ..JobSummary::ended(letter.id)
                })
            }
        }
    }

    /// The JSON of a job that may match. What is not JSON is `null`: a worker would reject it.
    fn parse(&self, json: &[u8]) -> Option<Value> {
        self.sieve.lets_through(json).then(|| std::str::from_utf8(json).ok().and_then(look_into).unwrap_or_default())
    }
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

/// Whether a place may have jobs that match.
fn wants(filter: &JobFilter, place: FoundPlace) -> bool {
    match place {
        FoundPlace::Stream(lane, _) => {
            filter.wants_lane(lane) && (filter.wants(Stage::Waiting) || filter.wants(Stage::InFlight))
        }
        FoundPlace::Delayed => filter.wants(Stage::Delayed),
        FoundPlace::Completions => filter.wants(Stage::Ended),
        FoundPlace::DeadLetters => filter.wants(Stage::Ended) && filter.has_contact(),
    }
}

fn delayed(at: DelayedPosition, parked: Option<DelayedJob>) -> Row {
    let seen = parked.map_or(Seen::Nothing, |parked| {
        let live = Live::delayed(parked);
        let since_ms = live.state.as_ref().and_then(|state| state.waiting).map(|(_, since_ms)| since_ms);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time; the cast saturates")]
        let due_ms = Some(at.score.ceil() as u64);
        Seen::Live { stage: Stage::Delayed, since_ms, due_ms, live }
    });
    Row { at: Position::Delayed(at), seen }
}

/// The kind of an error, if it is a known one.
fn kind_of(error: &Value) -> Option<ErrorKind> {
    serde_json::from_value(error["kind"].clone()).ok()
}

/// A text of a job, unless it is longer than any valid one.
fn short(value: &Value) -> Option<String> {
    value.as_str().filter(|text| (1..=MAX_TEXT_BYTES).contains(&text.len())).map(str::to_owned)
}
