//! Which dead letters an operation may touch, and reading them a page ahead, in bounded memory.

use super::json::{entry_as_text, entry_from_text};
use crate::{
    config::RedisConfig,
    contract::{EntryId, Partitions},
    dead_letters::{DeadLetter, DeadLetterView, Filter, IdRange},
    net::Backoff,
    operations::{Backend, Error},
    queue::{
        Keys, Link,
        dead_letters::{self, DeadLetterReader, ReadOrder},
        is_transient, rules,
    },
};
use redis::RedisError;
use serde::{Deserialize, Serialize};
use std::{ops::ControlFlow, time::Duration};
use tokio::sync::mpsc;

/// How often a command that is safe to repeat is repeated while Redis cannot be reached.
const TRIES: u32 = 6;
/// Delays between the tries of a command: the first, and the longest.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_millis(6_400);

/// The dead letters that were there at a moment and whose times fit a filter. Dead letters that are written later are never in
/// it. It can be kept as JSON, and lets an operation go on after a restart with the same dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// That moment, in milliseconds since 1970, on Redis's clock. Ages in a filter count from it.
    pub as_of_ms: u64,
    /// The range of entries of each partition. A partition without dead letters in scope is not named.
    pub ranges: Vec<PartitionRange>,
}

/// A range of the entries of one partition, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRange {
    /// The partition's number.
    pub partition: u16,
    /// The oldest entry of the range.
    #[serde(serialize_with = "entry_as_text", deserialize_with = "entry_from_text")]
    pub first: EntryId,
    /// The newest entry.
    #[serde(serialize_with = "entry_as_text", deserialize_with = "entry_from_text")]
    pub last: EntryId,
}

impl Scope {
    /// The same scope in one partition at a time.
    pub(super) fn each_partition(&self) -> impl Iterator<Item = Self> {
        self.ranges.iter().map(|range| Self { as_of_ms: self.as_of_ms, ranges: vec![*range] })
    }

    /// What of the scope comes after a dead letter, where the oldest are read first.
    pub(super) fn after(&self, partition: u16, entry: EntryId) -> Self {
        let rest = self.ranges.iter().filter_map(|range| {
            let first = if range.partition == partition { range.first.max(entry.after()?) } else { range.first };
            let is_left = range.partition >= partition && first <= range.last;
            is_left.then_some(PartitionRange { first, ..*range })
        });
        Self { as_of_ms: self.as_of_ms, ranges: rest.collect() }
    }

    /// The dead letter of this entry, whichever partition it is in.
    pub(super) fn of_entry(entry: EntryId, partitions: Partitions) -> Self {
        let range = |partition| PartitionRange { partition, first: entry, last: entry };
        Self { as_of_ms: entry.ms, ranges: partitions.numbers().map(range).collect() }
    }
}

/// The scope of a filter as of now.
///
/// # Errors
/// [`Error::Redis`].
pub async fn scope(backend: &mut Backend<'_>, filter: &Filter) -> Result<Scope, Error> {
    let failed = backend.failed();
    let as_of_ms = rules::now_ms(&mut backend.link).await.map_err(&failed)?;
    let mut ranges = Vec::new();
    for keys in backend.keys() {
        let newest = dead_letters::newest_letter(&mut backend.link, &keys).await.map_err(&failed)?;
        if let Some(IdRange { first, last }) = newest.and_then(|newest| filter.stretch(as_of_ms, newest)) {
            ranges.push(PartitionRange { partition: keys.partition, first, last });
        }
    }
    Ok(Scope { as_of_ms, ranges })
}

/// Starts to read the dead letters in scope, partition by partition.
pub(super) fn scan<'a>(backend: &Backend<'a>, scope: &Scope, order: ReadOrder) -> Scan<'a> {
    let redis = backend.redis();
    let ranges = scope.ranges.iter().map(|range| {
        let stretch = IdRange { first: range.first, last: range.last };
        (Keys::new(&redis.namespace, range.partition), stretch)
    });
    let (to, pages) = mpsc::channel(2);
    tokio::spawn(read(backend.another_link(), ranges.collect(), order, to));
    Scan { pages, redis }
}

/// Pages of dead letters that are being read. Reading stops when it is dropped.
pub(super) struct Scan<'a> {
    pages: mpsc::Receiver<Result<Vec<DeadLetter>, RedisError>>,
    redis: &'a RedisConfig,
}

impl Scan<'_> {
    /// The next page, of one partition; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>, Error> {
        self.pages.recv().await.transpose().map_err(|error| Error::redis(self.redis, &error))
    }

    /// Gives every dead letter that fits to `each`, until it breaks.
    pub(super) async fn for_each<B>(
        &mut self,
        filter: &Filter,
        mut each: impl FnMut(&DeadLetterView<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        while let Some(page) = self.next().await? {
            for letter in &page {
                let view = DeadLetterView::new(letter);
                if filter.wants(&view)
                    && let ControlFlow::Break(value) = each(&view)
                {
                    return Ok(ControlFlow::Break(value));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

async fn read(
    mut link: Link,
    ranges: Vec<(Keys, IdRange)>,
    order: ReadOrder,
    to: mpsc::Sender<Result<Vec<DeadLetter>, RedisError>>,
) {
    for (keys, range) in ranges {
        let mut reader = DeadLetterReader::new(keys, range, order);
        let mut patience = Patience::default();
        loop {
            match reader.next(&mut link).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => {
                    patience = Patience::default();
                    if to.send(Ok(page)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if let Err(error) = patience.after(error).await {
                        let _ = to.send(Err(error)).await;
                        return;
                    }
                }
            }
        }
    }
}

/// How long a command is repeated: six times, 12 s in all. For commands that are safe to repeat after a lost reply.
#[derive(Debug)]
pub(super) struct Patience {
    tries: u32,
    backoff: Backoff,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 0, backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY) }
    }
}

impl Patience {
    /// Waits before the command is repeated. Gives the error back where it does not pass by itself, or for too long.
    pub(super) async fn after(&mut self, error: RedisError) -> Result<(), RedisError> {
        if !is_transient(&error) || self.tries == TRIES {
            return Err(error);
        }
        self.tries += 1;
        tokio::time::sleep(self.backoff.next_delay()).await;
        Ok(())
    }

    /// Whether a reply was lost: the command may have taken effect more than once.
    pub(super) const fn was_tried(&self) -> bool {
        self.tries > 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scope_can_be_kept() {
        let first = EntryId { ms: 5, seq: 0 };
        let last = EntryId { ms: 7, seq: u64::MAX };
        let scope = Scope { as_of_ms: 9, ranges: vec![PartitionRange { partition: 3, first, last }] };
        let kept = serde_json::to_string(&scope).unwrap();
        assert!(kept.contains(r#""first":"5-0""#), "{kept}");
        assert_eq!(serde_json::from_str::<Scope>(&kept).unwrap(), scope);
        let two = Partitions::new(2).unwrap();
        let parts: Vec<_> = Scope::of_entry(first, two).each_partition().map(|part| part.ranges[0].partition).collect();
        assert_eq!(parts, [0, 1]);
    }

    #[test]
    fn a_scope_goes_on_after_a_dead_letter() {
        let id = |ms, seq| EntryId { ms, seq };
        let range = |partition, first| PartitionRange { partition, first, last: id(9, 0) };
        let scope = Scope { as_of_ms: 9, ranges: vec![range(0, id(3, 0)), range(1, id(3, 0)), range(2, id(3, 0))] };
        assert_eq!(scope.after(1, id(5, 2)).ranges, [range(1, id(5, 3)), range(2, id(3, 0))]);
        assert_eq!(scope.after(1, id(9, 0)).ranges, [range(2, id(3, 0))]);
        assert_eq!(scope.after(0, id(1, 0)).ranges, scope.ranges);
    }
}
