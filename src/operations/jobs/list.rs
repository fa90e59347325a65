//! Lists jobs that wait, run, are delayed or have ended, page by page and in bounded memory.

mod cursor;
mod filter;
mod person;
mod summary;

pub use cursor::ListCursor;
pub(in crate::operations) use filter::Sieve;
pub use filter::{JobFilter, Stage};
pub use person::{PersonSeals, SealedPerson};
pub use summary::JobSummary;

use super::{find::Finder, live::Live};
use crate::{
    contract::EntryId,
    dead_letters::{DeadLetter, IdRange},
    operations::{Backend, Error, Progress},
    queue::{
        RawEntry,
        dead_letters::{DeadLetterReader, ReadOrder},
        find,
        list::{self, CompletionEntry, FIRST_COUNT, next_count},
        rules::{self, DelayedJob},
    },
};
use cursor::{FoundPlace, Position};
use redis::RedisResult;
use serde::Serialize;
use summary::{Seen, Summariser};

/// Maximum number of jobs of one page.
pub const MOST_LISTED: usize = 1_000;

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

/// Lists jobs: first those in the lanes, in the order in which workers read them, then the delayed ones by due time, then the
/// ended ones, the newest first; each partition by partition. A job that moves during the list may be in it twice or not at all.
///
/// A completion holds no contact but that of a user whom XCO returned. With an email address or a phone number, ended jobs are
/// therefore found by such a user, and by their dead letters.
///
/// With an id the list has one job at most: the one that the index of ids names, else the first that is found in that order.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(
    backend: &mut Backend<'_>,
    request: &JobListRequest,
    progress: &dyn Progress,
) -> Result<JobList, Error> {
    let failed = backend.failed();
    let done: RedisResult<JobList> = async {
        let since_ms = match request.filter.since {
            Some(since) => since.ms(rules::now_ms(&mut backend.link).await?),
            None => 0,
        };
        let summariser = Summariser::new(&request.filter, since_ms);
        if let (Some(id), None) = (&request.filter.id, request.cursor)
            && let Some(found) = Finder::new(backend, id, progress).find_indexed().await?
        {
            let jobs: Vec<_> = summariser.summary(Seen::found(found.place)).into_iter().collect();
            // A job of another merchant is looked for like an unknown one, so that the answer does not tell them apart.
            if !jobs.is_empty() || request.filter.merchants.is_all() {
                return Ok(JobList { jobs, looked_at: 1, complete: true, cursor: None });
            }
        }
        Walk::new(request, summariser).run(backend, progress).await
    }
    .await;
    done.map_err(failed)
}

/// A job as it was read, before it is known to match.
struct Row {
    at: Position,
    seen: Seen,
}

/// Reads the places that may have matching jobs, one page after the other.
struct Walk<'a> {
    request: &'a JobListRequest,
    summariser: Summariser<'a>,
    at: ListCursor,
    /// Number of entries of the next page.
    count: usize,
    list: JobList,
}

impl<'a> Walk<'a> {
    fn new(request: &'a JobListRequest, summariser: Summariser<'a>) -> Self {
        let start = ListCursor { place: FoundPlace::ALL[0], partition: 0, after: None };
        Self {
            request,
            summariser,
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
                    self.list.complete = self.is_found();
                    self.list.cursor = (!self.list.complete).then_some(self.at);
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
                let is_full = self.list.jobs.len() >= self.limit() || self.is_found();
                if is_full || self.list.looked_at >= self.request.look_at_most {
                    return Ok(true);
                }
                self.list.looked_at += 1;
                self.at.after = Some(row.at);
                self.list.jobs.extend(self.summariser.summary(row.seen));
            }
            if self.is_found() {
                return Ok(true);
            }
        }
    }

    /// The job with the wanted id was found: no other has it.
    fn is_found(&self) -> bool {
        self.request.filter.id.is_some() && !self.list.jobs.is_empty()
    }

    fn limit(&self) -> usize {
        self.request.limit.clamp(1, MOST_LISTED)
    }

    /// The rows after the current place. `read` is the entry that workers read last, in a stream.
    async fn page(&mut self, backend: &mut Backend<'_>, read: Option<EntryId>) -> RedisResult<Vec<Row>> {
        let (filter, keys, count) = (&self.request.filter, backend.keys_of(self.at.partition), self.count);
        let since_ms = self.summariser.since_ms;
        let after = self.at.after;
        let link = &mut backend.link;
        let (rows, bytes): (Vec<Row>, usize) = match self.at.place {
            FoundPlace::Stream(lane, source) => {
                let mut after = after.and_then(Position::entry);
                if !filter.wants(Stage::Running) {
                    after = after.max(read);
                }
                after = after.max(EntryId { ms: since_ms, seq: 0 }.before());
                let mut page = find::page(link, &keys, lane, source, after, count).await?;
                let is_read = |entry: &RawEntry| read.is_some_and(|read| entry.id <= read);
                if !filter.wants(Stage::Waiting) {
                    page.retain(is_read);
                }
                let bytes = page.iter().map(|entry| entry.job.len() + 200).sum();
                let row = |entry: RawEntry| {
                    let stage = if is_read(&entry) { Stage::Running } else { Stage::Waiting };
                    let at = Position::Entry(entry.id);
                    Row { at, seen: Seen::Live { stage, due_ms: None, live: Live::in_stream(entry, keys.partition) } }
                };
                (page.into_iter().map(row).collect(), bytes)
            }
            FoundPlace::Delayed => {
                let after = after.and_then(Position::delayed);
                let page = list::delayed_page(link, &keys, after, count).await?;
                let size = |parked: &DelayedJob| parked.state.len() + parked.job.len() + 100;
                let bytes = page.iter().filter_map(|(_, parked)| parked.as_ref()).map(size).sum();
                let row = |(at, parked)| Row { at: Position::Delayed(at), seen: Seen::delayed(at.score, parked) };
                (page.into_iter().map(row).collect(), bytes)
            }
            FoundPlace::Completions => {
                let before = after.and_then(Position::entry);
                let mut page = list::completions_page(link, &keys, before, count).await?;
                page.retain(|completion| completion.entry.ms >= since_ms);
                let bytes = page.iter().map(|completion| completion.event.len() + 200).sum();
                let row = |completion: CompletionEntry| Row {
                    at: Position::Entry(completion.entry),
                    seen: Seen::Completion(completion),
                };
                (page.into_iter().map(row).collect(), bytes)
            }
            FoundPlace::DeadLetters => {
                let newest = EntryId { ms: u64::MAX, seq: u64::MAX };
                let oldest = EntryId { ms: since_ms, seq: 0 };
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
}

/// Whether a place may have jobs that match.
fn wants(filter: &JobFilter, place: FoundPlace) -> bool {
    match place {
        FoundPlace::Stream(lane, _) => {
            filter.wants_lane(lane) && (filter.wants(Stage::Waiting) || filter.wants(Stage::Running))
        }
        FoundPlace::Delayed => filter.wants(Stage::Delayed),
        FoundPlace::Completions => filter.wants(Stage::Ended),
        FoundPlace::DeadLetters => filter.wants(Stage::Ended) && filter.has_contact(),
    }
}
