//! The latest completions that the hub has read, shared by all feeds.

use crate::{completions::Completed, contract::EntryId};
use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{Arc, OnceLock},
};

/// Maximum number of items in the ring.
const MAX_ITEMS: usize = 4096;
/// Maximum size of the ring, in bytes of the completions' JSON. The latest item is kept in any case.
const MAX_BYTES: usize = 8 << 20;

/// A completion that many readers share. Its JSON is made once.
#[derive(Debug)]
pub struct HubCompletion {
    completed: Completed,
    json: Box<str>,
    other: OnceLock<Box<str>>,
}

impl HubCompletion {
    /// Makes its JSON.
    pub fn new(completed: Completed) -> Self {
        let json = completed.event.to_string().into_boxed_str();
        Self { completed, json, other: OnceLock::new() }
    }

    /// The event as JSON, in one line.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// A second text of this completion, such as the event with personal data masked. It is made by the first call and
    /// shared by all later ones, so every call must pass the same `make`.
    pub fn other_text(&self, make: impl FnOnce(&Completed) -> String) -> &str {
        self.other.get_or_init(|| make(&self.completed).into_boxed_str())
    }
}

impl Deref for HubCompletion {
    type Target = Completed;

    fn deref(&self) -> &Completed {
        &self.completed
    }
}

/// What the hub tells its feeds, in the order of reading.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Completion(Arc<HubCompletion>),
    /// Completions of a partition before `lost_before` were trimmed unread.
    Gap {
        partition: u16,
        lost_before: EntryId,
    },
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Completion(completion) => completion.json.len(),
            Self::Gap { .. } => 0,
        }
    }

    /// The place in its partition up to which everything is read once this item is.
    pub(super) fn place(&self) -> (usize, EntryId) {
        match self {
            Self::Completion(completion) => (usize::from(completion.partition), completion.entry_id),
            Self::Gap { partition, lost_before } => {
                (usize::from(*partition), lost_before.before().unwrap_or(*lost_before))
            }
        }
    }
}

/// A bounded log. Items have numbers that only grow.
#[derive(Debug)]
pub(super) struct Ring {
    items: VecDeque<Item>,
    /// Number of the oldest item.
    first: u64,
    bytes: usize,
    /// By partition: every entry after this one that the hub has read is in the ring.
    tail: Vec<EntryId>,
}

impl Ring {
    /// An empty ring for a hub that reads after these entries, by partition.
    pub(super) fn new(after: &[EntryId]) -> Self {
        Self { items: VecDeque::new(), first: 0, bytes: 0, tail: after.to_vec() }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
        while self.items.len() > MAX_ITEMS || (self.bytes > MAX_BYTES && self.items.len() > 1) {
            let Some(oldest) = self.items.pop_front() else { return };
            self.first += 1;
            self.bytes -= oldest.bytes();
            let (partition, entry) = oldest.place();
            if let Some(tail) = self.tail.get_mut(partition) {
                *tail = entry.max(*tail);
            }
        }
    }

    /// Number of the oldest item.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Number of the next item.
    pub(super) fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    pub(super) fn tail(&self) -> &[EntryId] {
        &self.tail
    }

    /// At most `count` items from number `from`. `None` if that one is no longer in the ring.
    pub(super) fn items(&self, from: u64, count: usize) -> Option<Vec<Item>> {
        let skip = usize::try_from(from.checked_sub(self.first)?).unwrap_or(usize::MAX);
        Some(self.items.iter().skip(skip).take(count).cloned().collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::Status;

    pub(in super::super) fn item(partition: u16, ms: u64, text: &str) -> Item {
        Item::Completion(Arc::new(HubCompletion::new(Completed {
            partition,
            entry_id: EntryId { ms, seq: 0 },
            id: format!("j{ms}"),
            job_type: None,
            status: Status::Failed,
            event: serde_json::json!({ "batch": text }),
        })))
    }

    #[test]
    fn the_ring_is_bounded_and_knows_what_it_no_longer_has() {
        let zero = EntryId { ms: 0, seq: 0 };
        let mut ring = Ring::new(&[zero, zero]);
        for ms in 1..=5000 {
            ring.push(item(u16::from(ms == 1), ms, ""));
        }
        assert_eq!((ring.items.len(), ring.first(), ring.end()), (MAX_ITEMS, 904, 5000));
        assert_eq!(ring.tail(), [EntryId { ms: 904, seq: 0 }, EntryId { ms: 1, seq: 0 }]);
        assert!(ring.items(903, 1).is_none());
        assert_eq!(ring.items(904, 2).unwrap()[1].place(), (0, EntryId { ms: 906, seq: 0 }));
        assert!(ring.items(5000, 10).unwrap().is_empty());
    }

    #[test]
    fn the_ring_is_bounded_in_bytes() {
        let mut ring = Ring::new(&[EntryId { ms: 0, seq: 0 }]);
        let large = "x".repeat(MAX_BYTES / 4);
        for ms in 1..=10 {
            ring.push(item(0, ms, &large));
            assert!(ring.bytes <= MAX_BYTES);
        }
        assert_eq!(ring.items.len(), 3);
        ring.push(item(0, 11, &"x".repeat(2 * MAX_BYTES)));
        assert_eq!(ring.items.len(), 1, "the latest is kept");
    }

    #[test]
    fn the_other_text_is_made_once() {
        let Item::Completion(completion) = item(0, 1, "b") else { return };
        assert_eq!(completion.json(), r#"{"batch":"b"}"#);
        assert_eq!(completion.other_text(|completed| completed.id.clone()), "j1");
        assert_eq!(completion.other_text(|_| String::new()), "j1");
    }
}
