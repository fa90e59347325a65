//! Detects completions that were trimmed before a reader read them.

use super::{decode::text, options::ZERO};
use crate::{
    contract::EntryId,
    queue::{Keys, Link},
};
use parking_lot::Mutex;
use redis::{RedisResult, Value, cmd};
use std::collections::HashMap;

/// Completions that a reader can no longer read, because `completions.max_bytes` or `completions.retention` removed
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Partition of the completions.
    pub partition: u16,
    /// The gap begins after this entry and ends before the next entry that is still kept.
    pub after: EntryId,
    /// Number of lost completions. `None` if it is unknown; then there may be none.
    pub lost: Option<u64>,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { partition, after, lost } = self;
        match lost {
            Some(lost) => write!(f, "{lost} completions of partition {partition} after {after} were trimmed unread"),
            None => write!(f, "completions of partition {partition} after {after} may have been trimmed unread"),
        }
    }
}

/// Gaps that have not been reported to the caller. Bounded: when it is full, losses are added to the latest gap.
#[derive(Debug, Default)]
pub(super) struct Gaps(Mutex<Vec<Gap>>);

impl Gaps {
    const MOST: usize = 256;

    pub(super) fn tell(&self, gap: Gap) {
        tracing::warn!("{gap}");
        let mut gaps = self.0.lock();
        if gaps.len() < Self::MOST {
            gaps.push(gap);
        } else if let Some(last) = gaps.last_mut() {
            last.lost = last.lost.zip(gap.lost).map(|(a, b)| a.saturating_add(b));
        }
    }

    pub(super) fn take(&self) -> Vec<Gap> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// First, last and number of completions in a partition's stream at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The oldest entry that is kept; `None` if there is none.
    pub first: Option<EntryId>,
    /// The last entry ever written.
    pub last: EntryId,
    /// Number of entries ever written. `None` for a version of Redis that does not count them.
    added: Option<u64>,
    length: u64,
}

impl Extent {
    /// Whether an entry after `after` may have been removed.
    pub fn is_past(&self, after: EntryId) -> bool {
        after < self.last && self.first.is_none_or(|first| first > after) && self.removed() != Some(0)
    }

    fn removed(&self) -> Option<u64> {
        self.added.map(|added| added.saturating_sub(self.length))
    }
}

/// Reads the extent of a partition's completions. O(1). Fails if Redis fails.
pub async fn extent(link: &mut Link, keys: &Keys) -> RedisResult<Extent> {
    let info: RedisResult<HashMap<String, Value>> = link.query(cmd("XINFO").arg("STREAM").arg(&keys.completions)).await;
    let info = match info {
        Ok(info) => info,
        // No completion has been written yet.
        Err(error) if error.code() == Some("ERR") => {
            return Ok(Extent { first: None, last: ZERO, added: Some(0), length: 0 });
        }
        Err(error) => return Err(error),
    };
    let id = |value: &Value| text(value).and_then(|id| id.parse::<EntryId>().ok());
    let number = |name: &str| match info.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let first = match info.get("first-entry") {
        Some(Value::Array(entry)) => entry.first().and_then(id),
        _ => None,
    };
    Ok(Extent {
        first,
        last: info.get("last-generated-id").and_then(id).unwrap_or(ZERO),
        added: number("entries-added"),
        length: number("length").unwrap_or(0),
    })
}

/// How far a reader has come in a stream, as the number of entries read or removed so far. `None` if unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position(Option<u64>);

impl Position {
    pub(super) const fn known(read: Option<u64>) -> Self {
        Self(read)
    }

    /// Position of a reader that starts after `after`. Known only if no entry follows.
    pub(super) fn at(after: EntryId, extent: &Extent) -> Self {
        Self(extent.added.filter(|_| after >= extent.last))
    }

    /// Advances past `read`, the entries read after `after`, and returns the gap that lay before them. `extent` must be
    /// taken after the read: an earlier one may miss entries trimmed in between.
    pub(super) fn advance(&mut self, partition: u16, after: EntryId, read: &[EntryId], extent: &Extent) -> Option<Gap> {
        let count = |entries: usize| u64::try_from(entries).unwrap_or(u64::MAX);
        let end = read.last()?;
        let pinned = extent.first.filter(|first| *first > after && first <= end);
        let (Some(first), Some(removed)) = (pinned, extent.removed()) else {
            // Nothing was trimmed up to here, or so much that the next read detects it.
            self.0 = self.0.map(|before| before.saturating_add(count(read.len())));
            return None;
        };
        // Of the removed entries, this many lay before those just read.
        let before = removed.saturating_sub(count(read.iter().filter(|entry| **entry < first).count()));
        let known = self.0.replace(before.saturating_add(count(read.len())));
        let lost = match known {
            Some(known) if before <= known => return None,
            Some(known) => Some(before - known),
            // A reader that starts at the beginning wants whatever is kept.
            None if after == ZERO || before == 0 => return None,
            None => None,
        };
        Some(Gap { partition, after, lost })
    }

    /// Compares the position with the stream before the next read. Each gap is returned once.
    pub(super) fn look(&mut self, partition: u16, after: EntryId, extent: &Extent) -> Option<Gap> {
        if after >= extent.last {
            self.0 = extent.added;
            return None;
        }
        if extent.first.is_some_and(|first| first <= after) {
            return None;
        }
        let removed = extent.removed();
        let lost = match (self.0, removed) {
            (Some(read), Some(removed)) if removed <= read => return None,
            (Some(read), Some(removed)) => Some(removed - read),
            _ => None,
        };
        self.0 = removed;
        // A reader that starts at the beginning wants whatever is kept.
        (lost.is_some() || after != ZERO).then_some(Gap { partition, after, lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    /// The extent when entries `first` to `last` are kept and numbering starts at 1.
    fn kept(first: u64, last: u64) -> Extent {
        let length = last + 1 - first;
        Extent { first: (length > 0).then_some(id(first)), last: id(last), added: Some(last), length }
    }

    #[test]
    fn a_reader_that_keeps_up_misses_nothing_whatever_is_trimmed() {
        let mut position = Position::default();
        assert_eq!(position.look(0, id(5), &kept(1, 5)), None);
        assert_eq!(position.look(0, id(5), &kept(6, 5)), None);
        assert_eq!(position.look(0, id(5), &kept(6, 8)), None, "trimmed up to where it has read");
        let ids = [6, 7, 8].map(id);
        assert_eq!(position.advance(0, id(5), &ids, &kept(6, 8)), None);
        assert_eq!(position, Position(Some(8)));
        assert_eq!(position.advance(0, id(8), &[id(9)], &kept(1, 20)), None);
        assert_eq!(position, Position(Some(9)));
    }

    #[test]
    fn a_gap_is_counted_and_told_once() {
        let mut position = Position::default();
        assert_eq!(position.look(0, id(5), &kept(1, 5)), None);
        let gap = Gap { partition: 0, after: id(5), lost: Some(10) };
        assert_eq!(position.look(0, id(5), &kept(16, 30)), Some(gap));
        assert_eq!(position.look(0, id(5), &kept(16, 30)), None);
        let ids: Vec<_> = (16..=20).map(id).collect();
        assert_eq!(position.advance(0, id(15), &ids, &kept(16, 30)), None);
        let gap = Gap { partition: 0, after: id(20), lost: Some(4) };
        assert_eq!(position.look(0, id(20), &kept(25, 30)), Some(gap));
        let gone = Gap { partition: 0, after: id(20), lost: Some(6) };
        assert_eq!(position.look(0, id(20), &kept(31, 30)), Some(gone), "nothing is left");
    }

    #[test]
    fn what_is_trimmed_just_before_a_read_or_just_after_it_is_counted_too() {
        let read: Vec<_> = (16..=20).map(id).collect();
        let gap = Gap { partition: 0, after: id(5), lost: Some(10) };
        for first in 16..=20 {
            let mut position = Position::at(id(5), &kept(1, 5));
            assert_eq!(position.advance(0, id(5), &read, &kept(first, 30)), Some(gap), "{first}");
            assert_eq!(position, Position(Some(20)));
        }
        let mut position = Position::at(id(5), &kept(1, 5));
        assert_eq!(position.advance(0, id(5), &read, &kept(25, 30)), None, "not known yet");
        let gap = Gap { partition: 0, after: id(20), lost: Some(14) };
        assert_eq!(position.advance(0, id(20), &[id(25)], &kept(25, 30)), Some(gap), "ten before, four after");
        let mut unknown = Position::at(id(5), &kept(6, 30));
        let gap = Gap { partition: 0, after: id(5), lost: None };
        assert_eq!(unknown.advance(0, id(5), &read, &kept(16, 30)), Some(gap));
        assert_eq!(unknown, Position(Some(20)));
    }

    #[test]
    fn who_comes_back_to_a_place_that_is_gone_is_told_that_there_may_be_a_gap() {
        let mut position = Position::default();
        let gap = Gap { partition: 3, after: id(5), lost: None };
        assert_eq!(position.look(3, id(5), &kept(16, 30)), Some(gap));
        assert_eq!(position.look(3, id(5), &kept(16, 30)), None);
        assert_eq!(Position::default().look(3, id(20), &kept(16, 30)), None);
        assert_eq!(Position::default().look(3, ZERO, &kept(16, 30)), None, "from the oldest kept");
    }
}
