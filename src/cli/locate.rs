//! Where a job is, by its id: with bounded steps through everything that may hold it.

use crate::{
    config::RedisConfig,
    contract::{EntryId, Lane, Origin, ParseContext, look_into, parse_job},
    jobs::JobState,
    queue::{
        Keys, Link, RawEntry, Source,
        control::{Parked, scan_parked},
        find::{self, Pending},
        rescue::ADRIFT,
    },
};
use redis::RedisResult;
use serde_json::Value;
use std::collections::BTreeMap;

/// Entries asked for at once.
const STEP: usize = 1_000;
/// The most waiting entries looked at in one stream for a job without a reservation.
const MOST_WAITING: usize = 200_000;
/// The most entries counted to tell a job's position.
const MOST_AHEAD: u64 = 50_000;
/// The most completions, and dead letters, looked at backwards.
const MOST_ENDED: usize = 100_000;

/// A job that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Its partition.
    pub(super) partition: u16,
    /// Where.
    pub(super) place: Place,
}

/// Where a job is.
#[derive(Debug)]
pub(super) enum Place {
    /// In a lane, unread.
    Waiting { live: Live, source: Source, ahead: Ahead },
    /// It was delivered, and nobody holds it: a foreign hand took it off the pending list. A worker takes it up again.
    Adrift { live: Live },
    /// A worker has it.
    InFlight { live: Live, pending: Pending },
    /// Put aside.
    Parked { live: Live, due_ms: u64 },
    /// It has a completion: the event, and whether its letter is there.
    Ended { event: Box<Value>, letter: bool },
    /// Only its letter is left.
    Dead { letter: BTreeMap<String, String> },
}

/// A job that has not ended.
#[derive(Debug)]
pub(super) struct Live {
    /// Where it entered.
    pub(super) origin: Origin,
    /// The lane it is in.
    pub(super) lane: Lane,
    /// What is remembered of it.
    pub(super) state: Option<JobState>,
    /// Its JSON.
    pub(super) job: Vec<u8>,
}

/// How many stand before a job in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// So many.
    Exactly(u64),
    /// At least so many: no more were counted.
    AtLeast(u64),
}

/// What was looked through in vain, for who asks.
#[derive(Debug, Default)]
pub(super) struct Searched {
    /// Waiting or parked jobs.
    pub(super) live: usize,
    /// Completions.
    pub(super) ended: usize,
    /// There was more than was looked at.
    pub(super) partly: bool,
}

/// Looks for a job. `progress` hears how many entries were looked at, now and then.
pub(super) struct Locator<'a> {
    link: &'a mut Link,
    redis: &'a RedisConfig,
    id: &'a str,
    progress: &'a mut dyn FnMut(usize),
    /// What was looked through.
    pub(super) searched: Searched,
}

impl<'a> Locator<'a> {
    pub(super) fn new(
        link: &'a mut Link,
        redis: &'a RedisConfig,
        id: &'a str,
        progress: &'a mut dyn FnMut(usize),
    ) -> Self {
        Self { link, redis, id, progress, searched: Searched::default() }
    }

    /// Looks everywhere: among the jobs that have not ended first, then among those that have.
    pub(super) async fn anywhere(&mut self) -> RedisResult<Option<Found>> {
        let reserved = self.reserved().await?;
        // A job changes places while it is looked for: between two looks it is in one of them.
        for _ in 0..2 {
            if let Some(origin) = reserved
                && let Some(place) = self.at(origin).await?
            {
                return Ok(Some(Found { partition: origin.partition, place }));
            }
        }
        for partition in 0..self.redis.partitions.max(1) {
            if reserved.is_none()
                && let Some(place) = self.waiting_unknown(partition).await?
            {
                return Ok(Some(Found { partition, place }));
            }
        }
        for partition in 0..self.redis.partitions.max(1) {
            let since_ms = reserved.filter(|origin| origin.partition == partition).map(|origin| origin.entry.ms);
            if let Some(place) = self.ended(partition, since_ms).await? {
                return Ok(Some(Found { partition, place }));
            }
        }
        Ok(None)
    }

    fn keys(&self, partition: u16) -> Keys {
        Keys::new(&self.redis.namespace, partition)
    }

    /// The job's origin: it is its id, or its id is reserved by it.
    async fn reserved(&mut self) -> RedisResult<Option<Origin>> {
        if let Ok(origin) = self.id.parse::<Origin>() {
            return Ok((origin.partition < self.redis.partitions.max(1)).then_some(origin));
        }
        for partition in 0..self.redis.partitions.max(1) {
            let keys = self.keys(partition);
            if let Some(origin) = find::reserved_by(self.link, &keys, self.id).await? {
                return Ok(Some(origin));
            }
        }
        Ok(None)
    }

    /// Where the job of that origin is, if it has not ended.
    async fn at(&mut self, origin: Origin) -> RedisResult<Option<Place>> {
        let keys = self.keys(origin.partition);
        if let Some(entry) = find::entry(self.link, &keys, origin.lane, Source::Jobs, origin.entry).await?
            && let Some(place) = self.in_stream(&keys, origin, entry).await?
        {
            return Ok(Some(place));
        }
        let mut after = None;
        for _ in 0..MOST_WAITING / STEP {
            let page = find::page(self.link, &keys, origin.lane, Source::Due, after, STEP).await?;
            let Some(last) = page.last().map(|entry| entry.id) else { break };
            let known =
                |entry: &RawEntry| entry.state.as_deref().and_then(JobState::from_json).map(|state| state.origin);
            if let Some(entry) = page.into_iter().find(|entry| known(entry) == Some(origin)) {
                if let Some(place) = self.in_stream(&keys, origin, entry).await? {
                    return Ok(Some(place));
                }
                break;
            }
            after = Some(last);
        }
        // Last: from the streams it may have moved here, while from here it moves to a stream only.
        if let Some((parked, due_ms)) = find::parked(self.link, &keys, origin).await? {
            return Ok(Some(Place::Parked { live: live_of(parked), due_ms }));
        }
        Ok(None)
    }

    /// Where a job is whose entry was just seen in a stream; none where it has ended or been put aside since.
    async fn in_stream(&mut self, keys: &Keys, origin: Origin, entry: RawEntry) -> RedisResult<Option<Place>> {
        let (lane, source, id) = (entry.lane, entry.source, entry.id);
        let stream = keys.stream(lane, source);
        let state = entry.state.as_deref().and_then(JobState::from_json);
        let live = Live { origin, lane, state, job: entry.job };
        // Between two questions a worker may read it, or end it: what seems adrift is looked at twice.
        for looks_again in [false, true] {
            match find::pending(self.link, stream, id).await? {
                Some(pending) if pending.consumer != ADRIFT => return Ok(Some(Place::InFlight { live, pending })),
                Some(_) => return Ok(Some(Place::Adrift { live })),
                None => {}
            }
            let read = find::last_read(self.link, stream).await?;
            if read.is_none_or(|read| read < id) {
                let ahead = self.ahead(keys, (lane, source), read, id).await?;
                return Ok(Some(Place::Waiting { live, source, ahead }));
            }
            if find::entry(self.link, keys, lane, source, id).await?.is_none() {
                return Ok(None);
            }
            if looks_again {
                break;
            }
        }
        Ok(Some(Place::Adrift { live }))
    }

    /// How many unread entries stand before that one.
    async fn ahead(
        &mut self,
        keys: &Keys,
        (lane, source): (Lane, Source),
        mut after: Option<EntryId>,
        id: EntryId,
    ) -> RedisResult<Ahead> {
        let mut ahead = 0;
        loop {
            let page = find::page(self.link, keys, lane, source, after, STEP).await?;
            let before = page.iter().take_while(|other| other.id < id).count();
            ahead += u64::try_from(before).unwrap_or(0);
            if before < STEP {
                return Ok(Ahead::Exactly(ahead));
            }
            if ahead >= MOST_AHEAD {
                return Ok(Ahead::AtLeast(ahead));
            }
            after = page.last().map(|entry| entry.id);
        }
    }

    /// A job whose id nobody has reserved: it has not come up yet, or long ago.
    async fn waiting_unknown(&mut self, partition: u16) -> RedisResult<Option<Place>> {
        let keys = self.keys(partition);
        for lane in Lane::ALL {
            for source in [Source::Due, Source::Jobs] {
                let mut after = None;
                for step in 0.. {
                    let page = find::page(self.link, &keys, lane, source, after, STEP).await?;
                    self.looked_at(page.len());
                    let Some(last) = page.last().map(|entry| entry.id) else { break };
                    if let Some(entry) = page.into_iter().find(|entry| self.is_it(&entry.job)) {
                        let state = entry.state.as_deref().and_then(JobState::from_json);
                        let new = Origin { lane, partition, entry: entry.id };
                        let origin = state.map_or(new, |state| state.origin);
                        if let Some(place) = self.in_stream(&keys, origin, entry).await? {
                            return Ok(Some(place));
                        }
                        break;
                    }
                    after = Some(last);
                    if step * STEP >= MOST_WAITING {
                        self.searched.partly = true;
                        break;
                    }
                }
            }
        }
        let mut cursor = 0;
        for _ in 0..MOST_WAITING / STEP {
            let (next, page) = scan_parked(self.link, &keys, cursor, STEP).await?;
            self.looked_at(page.len());
            if let Some(parked) = page.into_iter().find(|parked| self.is_it(&parked.job)) {
                return self.at(parked.origin).await;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(None);
            }
        }
        self.searched.partly = true;
        Ok(None)
    }

    fn looked_at(&mut self, count: usize) {
        self.searched.live += count;
        (self.progress)(self.searched.live + self.searched.ended);
    }

    fn is_it(&self, job: &[u8]) -> bool {
        // Most need not be parsed to be told from it.
        job.windows(self.id.len()).any(|window| window == self.id.as_bytes()) && id_of(job).as_deref() == Some(self.id)
    }

    /// Its completion, or its letter.
    async fn ended(&mut self, partition: u16, since_ms: Option<u64>) -> RedisResult<Option<Place>> {
        let keys = self.keys(partition);
        let completion = self.backwards(&keys.completions, since_ms).await?;
        let event = completion.and_then(|fields| look_into(fields.get("event")?));
        if let Some(event) = &event
            && event["dead_lettered"] != true
        {
            return Ok(Some(Place::Ended { event: Box::new(event.clone()), letter: false }));
        }
        let letter = self.backwards(&keys.dead, since_ms).await?;
        Ok(match (event, letter) {
            (Some(event), letter) => Some(Place::Ended { event: Box::new(event), letter: letter.is_some() }),
            (None, Some(letter)) => Some(Place::Dead { letter }),
            (None, None) => None,
        })
    }

    /// The last entry with the job's id in a stream that is newer than `since_ms`.
    async fn backwards(
        &mut self,
        stream: &str,
        since_ms: Option<u64>,
    ) -> RedisResult<Option<BTreeMap<String, String>>> {
        let mut before: Option<EntryId> = None;
        for _ in 0..MOST_ENDED / STEP {
            let page = find::page_back(self.link, stream, before, STEP).await?;
            self.searched.ended += page.len();
            (self.progress)(self.searched.live + self.searched.ended);
            let Some((last, _)) = page.last() else { return Ok(None) };
            before = Some(*last);
            let past = since_ms.is_some_and(|since_ms| last.ms < since_ms);
            let found = page.into_iter().find(|(_, fields)| fields.get("id").is_some_and(|id| id == self.id));
            if let Some((_, fields)) = found {
                return Ok(Some(fields));
            }
            if past {
                return Ok(None);
            }
        }
        self.searched.partly = true;
        Ok(None)
    }
}

fn live_of(parked: Parked) -> Live {
    let state = JobState::from_json(&parked.state);
    Live { origin: parked.origin, lane: parked.origin.lane, state, job: parked.job }
}

fn id_of(job: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(job).ok()?["id"].as_str().map(str::to_owned)
}

/// The job as a worker reads it; none where it is none.
pub(super) fn parse(job: &[u8], origin: Origin, generation: u8, lenient: bool) -> Option<crate::contract::Job> {
    let default_id = origin.to_string();
    let context = ParseContext { allow_missing_caller_id: lenient, default_id: &default_id, generation };
    parse_job(job, context).ok()
}
