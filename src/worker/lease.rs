//! The leases of the deliveries in this process, and when Redis last confirmed each.

use crate::{
    contract::{EntryId, Lane},
    queue::{Source, rescue::Renewal},
};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

/// Identifies a delivery within a partition.
pub(super) type LeaseKey = (Lane, Source, EntryId);

/// Index of a lane's stream among a partition's four.
pub(super) const fn stream_place(lane: Lane, source: Source) -> usize {
    lane as usize * 2 + source as usize
}

/// One delivery's lease.
#[derive(Debug)]
pub(super) struct Lease {
    renewed_at_ms: AtomicI64,
    lost: AtomicBool,
    /// Whether something other than a worker removed the entry.
    trimmed: AtomicBool,
}

impl Lease {
    /// Whether no other worker can have taken the delivery over yet, by the monotonic clock.
    pub(super) fn holds(&self, now_ms: i64, lease_ms: i64) -> bool {
        !self.lost.load(Ordering::Acquire) && now_ms - self.renewed_at_ms.load(Ordering::Acquire) < lease_ms
    }
}

#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<LeaseKey, Arc<Lease>>>,
    /// Whether Redis reported any of them as lost, or its entry as removed.
    any_doubtful: AtomicBool,
}

impl Leases {
    fn held(&self) -> MutexGuard<'_, HashMap<LeaseKey, Arc<Lease>>> {
        self.held.lock()
    }

    /// Takes a lease as of `asked_at_ms`, when the delivery was requested. `None` if this process has the lease
    /// already.
    pub(super) fn take(&self, key: LeaseKey, asked_at_ms: i64) -> Option<Arc<Lease>> {
        let lease = Arc::new(Lease {
            renewed_at_ms: AtomicI64::new(asked_at_ms),
            lost: AtomicBool::new(false),
            trimmed: AtomicBool::new(false),
        });
        match self.held().entry(key) {
            std::collections::hash_map::Entry::Occupied(_) => None,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Arc::clone(&lease));
                Some(lease)
            }
        }
    }

    /// Ends the leases of these deliveries.
    pub(super) fn end(&self, keys: impl Iterator<Item = LeaseKey>) {
        let mut held = self.held();
        for key in keys {
            held.remove(&key);
        }
    }

    /// The entries of one stream with a lease, for renewal.
    pub(super) fn of(&self, lane: Lane, source: Source) -> Vec<EntryId> {
        self.held().keys().filter(|key| key.0 == lane && key.1 == source).map(|key| key.2).collect()
    }

    /// Records the result `renewal` of a request for `ids`, made at `asked_at_ms`.
    pub(super) fn renewed(&self, (lane, source): (Lane, Source), ids: &[EntryId], renewal: &Renewal, asked_at_ms: i64) {
        let held = self.held();
        for id in ids {
            if let Some(lease) = held.get(&(lane, source, *id)) {
                if renewal.lost.contains(id) {
                    lease.lost.store(true, Ordering::Release);
                } else {
                    lease.renewed_at_ms.store(asked_at_ms, Ordering::Release);
                    lease.trimmed.store(renewal.trimmed.contains(id), Ordering::Release);
                }
            }
        }
        if !renewal.lost.is_empty() || !renewal.trimmed.is_empty() {
            self.any_doubtful.store(true, Ordering::Release);
        }
    }

    /// Whether Redis reported that another worker has the delivery, or that its entry is gone. Such a delivery must be
    /// ended in a batch of its own.
    pub(super) fn is_doubtful(&self, key: &LeaseKey) -> bool {
        self.any_doubtful.load(Ordering::Acquire)
            && self
                .held()
                .get(key)
                .is_some_and(|lease| lease.lost.load(Ordering::Acquire) || lease.trimmed.load(Ordering::Acquire))
    }

    /// Whether this process has the lease of a delivery.
    pub(super) fn holds(&self, key: &LeaseKey) -> bool {
        self.held().contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.held().len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lease_ends_by_time_or_by_loss() {
        let leases = Leases::default();
        let key = (Lane::Bulk, Source::Jobs, EntryId { ms: 1, seq: 0 });
        let lease = leases.take(key, 0).unwrap();
        assert!(leases.take(key, 5).is_none(), "held already");
        assert!(lease.holds(999, 1000));
        assert!(!lease.holds(1000, 1000));
        leases.renewed((Lane::Bulk, Source::Jobs), &[key.2], &Renewal::default(), 800);
        assert!(lease.holds(1700, 1000));
        let trimmed = Renewal { trimmed: vec![key.2], ..Renewal::default() };
        assert!(!leases.is_doubtful(&key));
        leases.renewed((Lane::Bulk, Source::Jobs), &[key.2], &trimmed, 1000);
        assert!(leases.is_doubtful(&key) && lease.holds(1700, 1000), "it is ours, but for its entry");
        let lost = Renewal { lost: vec![key.2], ..Renewal::default() };
        leases.renewed((Lane::Bulk, Source::Jobs), &[key.2], &lost, 1700);
        assert!(!lease.holds(1701, 1000) && leases.is_doubtful(&key));
        leases.end(std::iter::once(key));
        assert_eq!(leases.len(), 0);
    }
}
