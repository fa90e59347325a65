//! Finds a job by its id: in bounded steps through every place that may hold it.

use super::{
    bounds::SearchBounds,
    live::{Live, id_of, state_of},
};
use crate::{
    contract::{EntryId, Lane, Origin, look_into},
    operations::{Backend, Progress},
    queue::{
        Keys, Link, RawEntry, Source,
        find::{self, Pending},
        index::{Located, locate},
        rescue::ADRIFT,
        rules::scan_delayed,
    },
};
use memchr::{memchr, memmem};
use redis::RedisResult;
use serde_json::Value;
use std::collections::BTreeMap;

/// Entries that one step reads.
const STEP: usize = 1_000;
/// Maximum number of entries counted for a job's position.
const MOST_AHEAD: u64 = 50_000;
/// How much newer than its completion a dead letter may be.
const DEAD_LETTER_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Found {
    pub(super) partition: u16,
    pub(super) place: FoundPlace,
}

/// Where a job is.
#[derive(Debug)]
pub(super) enum FoundPlace {
    /// In a lane, unread.
    Waiting { live: Live, source: Source, ahead: JobsAhead },
    /// It was delivered, and no consumer holds it: something else than a worker removed it from the pending list. A worker takes
    /// it up again.
    Adrift { live: Live },
    /// A worker has it.
    InFlight { live: Live, pending: Pending },
    /// It comes back at `due_ms`.
    Delayed { live: Live, due_ms: u64 },
    /// It has a completion.
    Ended { completion: Box<Value>, letter: Option<BTreeMap<String, String>> },
    /// Only its dead letter is left.
    Dead { letter: BTreeMap<String, String> },
}

impl FoundPlace {
    /// The JSON that names the job's merchant: the job's own, or that of its completion.
    pub(super) fn json(&self) -> Value {
        let parse = |json: &[u8]| std::str::from_utf8(json).ok().and_then(look_into).unwrap_or_default();
        match self {
            Self::Waiting { live, .. }
            | Self::Adrift { live }
            | Self::InFlight { live, .. }
            | Self::Delayed { live, .. } => parse(&live.job),
            Self::Ended { completion, .. } => (**completion).clone(),
            Self::Dead { letter } => parse(letter.get("job").map_or("", String::as_str).as_bytes()),
        }
    }
}

/// How many jobs stand before a job in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobsAhead {
    Exactly(u64),
    /// So many, and perhaps more: no more were counted.
    AtLeast(u64),
}

/// What was looked through without finding the job.
#[derive(Debug, Default)]
pub(super) struct SearchCounts {
    /// Waiting or delayed jobs.
    pub(super) live: usize,
    /// Completions and dead letters.
    pub(super) ended: usize,
    /// There was more than was looked at.
    pub(super) partly: bool,
}

/// Looks for one job.
pub(in crate::operations) struct Finder<'a> {
    link: &'a mut Link,
    namespace: &'a str,
    partitions: u16,
    id: &'a str,
    progress: &'a dyn Progress,
    bounds: SearchBounds,
    pub(super) searched: SearchCounts,
}

impl<'a> Finder<'a> {
    pub(in crate::operations) fn new(backend: &'a mut Backend<'_>, id: &'a str, progress: &'a dyn Progress) -> Self {
        let (namespace, partitions) = (backend.namespace(), backend.partitions());
        let (bounds, searched) = (SearchBounds::default(), SearchCounts::default());
        Self { link: &mut backend.link, namespace, partitions, id, progress, bounds, searched }
    }

    pub(super) fn within(self, bounds: SearchBounds) -> Self {
        Self { bounds, ..self }
    }

    /// Whether the search ends here, after so many entries. There is then more than was looked at.
    const fn is_enough(&mut self, entries: usize, most: usize) -> bool {
        let is_enough = entries >= most;
        self.searched.partly |= is_enough;
        is_enough
    }

    /// Looks everywhere: first among the jobs that have not ended, then among the completions and dead letters.
    pub(super) async fn find(&mut self) -> RedisResult<Option<Found>> {
        let located = self.located().await?;
        if let Some(located) = located
            && let Some(place) = self.ended_there(located).await?
        {
            return Ok(Some(Found { partition: located.origin.partition, place }));
        }
        let reserved = located.map(|located| located.origin);
        // A job moves while it is looked for. The second look finds one that moved during the first.
        for _ in 0..2 {
            if let Some(origin) = reserved
                && let Some(place) = self.at(origin).await?
            {
                return Ok(Some(Found { partition: origin.partition, place }));
            }
        }
        for partition in 0..self.partitions {
            if reserved.is_none()
                && let Some(place) = self.without_reservation(partition).await?
            {
                return Ok(Some(Found { partition, place }));
            }
        }
        for partition in 0..self.partitions {
            let since_ms = reserved.filter(|origin| origin.partition == partition).map(|origin| origin.entry.ms);
            if let Some(place) = self.ended(partition, since_ms).await? {
                return Ok(Some(Found { partition, place }));
            }
        }
        Ok(None)
    }

    /// Looks only where the index of ids says that the job is. `None` if the index does not know the id, or if the job is not there:
    /// then [`Self::find`] may find it.
    pub(super) async fn find_indexed(&mut self) -> RedisResult<Option<Found>> {
        let Some(located) = self.located().await? else { return Ok(None) };
        let place = match self.ended_there(located).await? {
            None => self.at(located.origin).await?,
            ended => ended,
        };
        Ok(place.map(|place| Found { partition: located.origin.partition, place }))
    }

    /// Whether the job of that origin has not ended.
    pub(in crate::operations) async fn is_live(&mut self, origin: Origin) -> RedisResult<bool> {
        let keys = self.keys_of(origin.partition);
        // A job moves while it is looked for. The second look finds one that moved during the first.
        for _ in 0..2 {
            if find::entry(self.link, &keys, origin.lane, Source::Jobs, origin.entry).await?.is_some()
                || self.came_back(&keys, origin).await?.is_some()
                || find::parked(self.link, &keys, origin).await?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn keys_of(&self, partition: u16) -> Keys {
        Keys::new(self.namespace, partition)
    }

    /// What the id itself or the index of ids says about the job.
    async fn located(&mut self) -> RedisResult<Option<Located>> {
        if let Ok(origin) = self.id.parse::<Origin>() {
            return Ok((origin.partition < self.partitions).then_some(Located { origin, ended: None }));
        }
        for partition in 0..self.partitions {
            let keys = self.keys_of(partition);
            if let Some(located) = locate(self.link, &keys, self.id).await? {
                return Ok(Some(located));
            }
        }
        Ok(None)
    }

    /// The end of a job, from where the index of ids says that it is. `None` if the completion was trimmed.
    async fn ended_there(&mut self, located: Located) -> RedisResult<Option<FoundPlace>> {
        let Some(entry) = located.ended else { return Ok(None) };
        let keys = self.keys_of(located.origin.partition);
        let next = EntryId { seq: entry.seq.saturating_add(1), ..entry };
        let Some((found, fields)) = find::page_back(self.link, &keys.completions, Some(next), 1).await?.pop() else {
            return Ok(None);
        };
        let completion = fields.get("event").filter(|_| found == entry).and_then(|event| look_into(event));
        let Some(completion) = completion.filter(|event| event["id"] == self.id).map(Box::new) else { return Ok(None) };
        // Both were written in one step, so the dead letter is about as old.
        let mut letter = None;
        if completion["dead_lettered"] == true {
            let until_ms = entry.ms.saturating_add(DEAD_LETTER_MS);
            letter = self.backwards(&keys.dead, Some(entry.ms), Some(until_ms)).await?;
        }
        Ok(Some(FoundPlace::Ended { completion, letter }))
    }

    /// Where the job of that origin is, if it has not ended.
    async fn at(&mut self, origin: Origin) -> RedisResult<Option<FoundPlace>> {
        let keys = self.keys_of(origin.partition);
        // Most jobs that are not in their lane are delayed, and that is known at once.
        if let Some((parked, due_ms)) = find::parked(self.link, &keys, origin).await? {
            return Ok(Some(FoundPlace::Delayed { live: Live::delayed(parked), due_ms }));
        }
        if let Some(entry) = find::entry(self.link, &keys, origin.lane, Source::Jobs, origin.entry).await?
            && let Some(place) = self.in_stream(&keys, origin, entry).await?
        {
            return Ok(Some(place));
        }
        if let Some(entry) = self.came_back(&keys, origin).await?
            && let Some(place) = self.in_stream(&keys, origin, entry).await?
        {
            return Ok(Some(place));
        }
        // Once more: a job moves from the streams to the delayed jobs, and from there only to a stream.
        if let Some((parked, due_ms)) = find::parked(self.link, &keys, origin).await? {
            return Ok(Some(FoundPlace::Delayed { live: Live::delayed(parked), due_ms }));
        }
        Ok(None)
    }

    /// The entry of the job of that origin among those that came back to the lane.
    async fn came_back(&mut self, keys: &Keys, origin: Origin) -> RedisResult<Option<RawEntry>> {
        let (mut after, mut entries) = (None, 0);
        // The origin stands in the state as this text: most states need not be parsed.
        let name = origin.to_string();
        let names_it = |entry: &RawEntry| {
            let may_name =
                |state: &[u8]| memchr(b'\\', state).is_some() || memmem::find(state, name.as_bytes()).is_some();
            entry.state.as_deref().is_some_and(may_name) && state_of(entry).is_some_and(|state| state.origin == origin)
        };
        while !self.is_enough(entries, self.bounds.jobs) {
            let page = find::page(self.link, keys, origin.lane, Source::Due, after, STEP).await?;
            let Some(last) = page.last().map(|entry| entry.id) else { break };
            self.looked_at(page.len());
            entries += page.len();
            if let Some(entry) = page.into_iter().find(names_it) {
                return Ok(Some(entry));
            }
            after = Some(last);
        }
        Ok(None)
    }

    /// Where a job is whose entry was just seen in a stream; `None` where it has ended or moved since.
    async fn in_stream(&mut self, keys: &Keys, origin: Origin, entry: RawEntry) -> RedisResult<Option<FoundPlace>> {
        let (lane, source, id) = (entry.lane, entry.source, entry.id);
        let stream = keys.stream(lane, source);
        let live = Live { origin, ..Live::in_stream(entry, origin.partition) };
        // Between two commands a worker may read or end it. A job that seems adrift is looked at twice.
        for looks_again in [false, true] {
            match find::pending(self.link, stream, id).await? {
                Some(pending) if pending.consumer != ADRIFT => return Ok(Some(FoundPlace::InFlight { live, pending })),
                Some(_) => return Ok(Some(FoundPlace::Adrift { live })),
                None => {}
            }
            let read = find::last_read(self.link, stream).await?;
            if read.is_none_or(|read| read < id) {
                let ahead = self.ahead(keys, (lane, source), read, id).await?;
                return Ok(Some(FoundPlace::Waiting { live, source, ahead }));
            }
            if find::entry(self.link, keys, lane, source, id).await?.is_none() {
                return Ok(None);
            }
            if looks_again {
                break;
            }
        }
        Ok(Some(FoundPlace::Adrift { live }))
    }

    /// How many unread entries stand before the entry `id`.
    async fn ahead(
        &mut self,
        keys: &Keys,
        (lane, source): (Lane, Source),
        mut after: Option<EntryId>,
        id: EntryId,
    ) -> RedisResult<JobsAhead> {
        let mut ahead = 0;
        loop {
            let page = find::page(self.link, keys, lane, source, after, STEP).await?;
            let before = page.iter().take_while(|other| other.id < id).count();
            ahead += u64::try_from(before).unwrap_or(0);
            if before < STEP {
                return Ok(JobsAhead::Exactly(ahead));
            }
            if ahead >= MOST_AHEAD {
                return Ok(JobsAhead::AtLeast(ahead));
            }
            after = page.last().map(|entry| entry.id);
        }
    }

    /// Looks for a job whose id is not reserved: no worker has read it yet, or its reservation has expired.
    async fn without_reservation(&mut self, partition: u16) -> RedisResult<Option<FoundPlace>> {
        let keys = self.keys_of(partition);
        for lane in Lane::ALL {
            for source in [Source::Due, Source::Jobs] {
                let (mut after, mut entries) = (None, 0);
                while !self.is_enough(entries, self.bounds.jobs) {
                    let page = find::page(self.link, &keys, lane, source, after, STEP).await?;
                    self.looked_at(page.len());
                    entries += page.len();
                    let Some(last) = page.last().map(|entry| entry.id) else { break };
                    if let Some(entry) = page.into_iter().find(|entry| self.is_it(&entry.job)) {
                        let origin = Live::origin_of(&entry, partition);
                        if let Some(place) = self.in_stream(&keys, origin, entry).await? {
                            return Ok(Some(place));
                        }
                        break;
                    }
                    after = Some(last);
                }
            }
        }
        let (mut cursor, mut entries) = (0, 0);
        while !self.is_enough(entries, self.bounds.jobs) {
            let (next, page) = scan_delayed(self.link, &keys, cursor, STEP).await?;
            self.looked_at(page.len());
            entries += page.len();
            if let Some(parked) = page.into_iter().find(|parked| self.is_it(&parked.job)) {
                return self.at(parked.origin).await;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        Ok(None)
    }

    fn looked_at(&mut self, count: usize) {
        self.searched.live += count;
        self.progress.advance(u64::try_from(count).unwrap_or(0));
    }

    fn is_it(&self, job: &[u8]) -> bool {
        // The search for the bytes saves most jobs from being parsed. An escape hides them: PHP writes `/` as `\/`.
        let may_be = memchr(b'\\', job).is_some() || memmem::find(job, self.id.as_bytes()).is_some();
        may_be && id_of(job).as_deref() == Some(self.id)
    }

    /// The job's completion, or its dead letter.
    async fn ended(&mut self, partition: u16, since_ms: Option<u64>) -> RedisResult<Option<FoundPlace>> {
        let keys = self.keys_of(partition);
        let completion = self.backwards(&keys.completions, since_ms, None).await?;
        let completion = completion.and_then(|fields| look_into(fields.get("event")?)).map(Box::new);
        if let Some(completion) = &completion
            && completion["dead_lettered"] != true
        {
            return Ok(Some(FoundPlace::Ended { completion: completion.clone(), letter: None }));
        }
        let letter = self.backwards(&keys.dead, since_ms, None).await?;
        Ok(match (completion, letter) {
            (Some(completion), letter) => Some(FoundPlace::Ended { completion, letter }),
            (None, Some(letter)) => Some(FoundPlace::Dead { letter }),
            (None, None) => None,
        })
    }

    /// The last entry of a stream that has the job's id. Entries older than `since_ms` or newer than `until_ms` are not read.
    async fn backwards(
        &mut self,
        stream: &str,
        since_ms: Option<u64>,
        until_ms: Option<u64>,
    ) -> RedisResult<Option<BTreeMap<String, String>>> {
        let mut before = until_ms.map(|ms| EntryId { ms: ms.saturating_add(1), seq: 0 });
        let mut entries = 0;
        while !self.is_enough(entries, self.bounds.ended) {
            let page = find::page_back(self.link, stream, before, STEP).await?;
            entries += page.len();
            self.searched.ended += page.len();
            self.progress.advance(u64::try_from(page.len()).unwrap_or(0));
            let Some((last, _)) = page.last() else { return Ok(None) };
            before = Some(*last);
            let past = since_ms.is_some_and(|since_ms| last.ms < since_ms);
            let found = page.into_iter().find(|(_, fields)| fields.get("id").is_some_and(|id| id == self.id));
            if let Some((_, fields)) = found {
                return Ok(Some(fields));
            }
            if past {
                break;
            }
        }
        Ok(None)
    }
}
