//! The deliveries that this process holds, and since when Redis knows.

use crate::{
    contract::{EntryId, Lane},
    queue::Source,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

/// Which delivery of a partition.
pub(super) type LeaseKey = (Lane, Source, EntryId);

/// One delivery's lease.
#[derive(Debug)]
pub(super) struct Lease {
    renewed_at_ms: AtomicI64,
    lost: AtomicBool,
}

impl Lease {
    /// Whether no other worker can have taken the delivery over by now, as far as the monotonic clock tells.
    pub(super) fn holds(&self, now_ms: i64, lease_ms: i64) -> bool {
        !self.lost.load(Ordering::Acquire) && now_ms - self.renewed_at_ms.load(Ordering::Acquire) < lease_ms
    }
}

/// All leases of one partition.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<LeaseKey, Arc<Lease>>>,
}

impl Leases {
    fn held(&self) -> MutexGuard<'_, HashMap<LeaseKey, Arc<Lease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease as of `asked_at_ms` (when the delivery was asked for); `None` if this process holds it already.
    pub(super) fn take(&self, key: LeaseKey, asked_at_ms: i64) -> Option<Arc<Lease>> {
        let lease = Arc::new(Lease { renewed_at_ms: AtomicI64::new(asked_at_ms), lost: AtomicBool::new(false) });
        match self.held().entry(key) {
            std::collections::hash_map::Entry::Occupied(_) => None,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Arc::clone(&lease));
                Some(lease)
            }
        }
    }

    /// Ends leases.
    pub(super) fn end(&self, keys: impl Iterator<Item = LeaseKey>) {
        let mut held = self.held();
        for key in keys {
            held.remove(&key);
        }
    }

    /// Those of one stream, for renewal.
    pub(super) fn of(&self, lane: Lane, source: Source) -> Vec<EntryId> {
        self.held().keys().filter(|key| key.0 == lane && key.1 == source).map(|key| key.2).collect()
    }

    /// Redis confirmed `ids` when asked at `asked_at_ms`, but for `lost`.
    pub(super) fn renewed(&self, lane: Lane, source: Source, ids: &[EntryId], lost: &[EntryId], asked_at_ms: i64) {
        let held = self.held();
        for id in ids {
            if let Some(lease) = held.get(&(lane, source, *id)) {
                if lost.contains(id) {
                    lease.lost.store(true, Ordering::Release);
                } else {
                    lease.renewed_at_ms.store(asked_at_ms, Ordering::Release);
                }
            }
        }
    }

    /// How many.
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
        leases.renewed(Lane::Bulk, Source::Jobs, &[key.2], &[], 800);
        assert!(lease.holds(1700, 1000));
        leases.renewed(Lane::Bulk, Source::Jobs, &[key.2], &[key.2], 1700);
        assert!(!lease.holds(1701, 1000));
        leases.end(std::iter::once(key));
        assert_eq!(leases.len(), 0);
    }
}
