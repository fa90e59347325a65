//! Tracks backlogged callers: those of a partition who have far more jobs than their limits allow.
//!
//! Their jobs are admitted on a deferred path, so that other callers' jobs need not wait behind them. A caller's jobs
//! keep their order: all take the same path, and change it only when no job of the caller remains on the former one.

use crate::limits::Bucket;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;

/// Maximum number of callers tracked. A flood usually comes from a few callers; one spread over more than this is not
/// detected, and treated like ordinary traffic.
const MOST: usize = 1024;

/// A caller whose next reservation is nearer than this, in microseconds, is not backlogged.
const NEAR_US: u64 = 50_000;

/// The path that a job takes to admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdmissionPath {
    /// Together with all other callers.
    Direct,
    /// The deferred path. Unless `clear`, jobs of the same caller may still be on the direct path.
    Deferred { clear: bool },
}

#[derive(Debug, Default)]
struct BackloggedCaller {
    /// The caller's next reservation, in microseconds on Redis's clock.
    due_us: u64,
    /// Number of the caller's jobs on the deferred path.
    aside: usize,
    /// Whether no job of the caller is on the direct path.
    clear: bool,
}

impl BackloggedCaller {
    const fn lasts(&self, now_us: u64) -> bool {
        self.due_us > now_us || self.aside > 0
    }
}

/// Buckets of backlogged callers, by name.
#[derive(Debug, Default)]
pub(super) struct BackloggedCallers(Mutex<HashMap<String, BackloggedCaller>>);

impl BackloggedCallers {
    fn known(&self) -> MutexGuard<'_, HashMap<String, BackloggedCaller>> {
        // Plain figures: they are consistent even if a thread panicked while holding the lock.
        self.0.lock()
    }

    /// Records that the next reservation of `bucket` is at `due_us`.
    pub(super) fn note(&self, bucket: &Bucket, due_us: u64, now_us: u64) {
        if due_us < now_us.saturating_add(NEAR_US) {
            return;
        }
        let mut known = self.known();
        if let Some(backlogged) = known.get_mut(&bucket.name) {
            backlogged.clear &= backlogged.lasts(now_us);
            backlogged.due_us = due_us;
            return;
        }
        if known.len() >= MOST {
            known.retain(|_, backlogged| backlogged.lasts(now_us));
        }
        if known.len() < MOST {
            known.insert(bucket.name.clone(), BackloggedCaller { due_us, ..BackloggedCaller::default() });
        }
    }

    /// Chooses the path of a new job. A job on the deferred path is counted until [`BackloggedCallers::left`].
    pub(super) fn join(&self, bucket: &Bucket, now_us: u64) -> AdmissionPath {
        match self.known().get_mut(&bucket.name) {
            Some(backlogged) if backlogged.lasts(now_us) => {
                backlogged.aside += 1;
                AdmissionPath::Deferred { clear: backlogged.clear }
            }
            _ => AdmissionPath::Direct,
        }
    }

    /// Forgets when the callers' next reservations are, because the limits have changed. Jobs on the deferred path stay there, so
    /// that each caller's jobs keep their order.
    pub(super) fn forget_reservations(&self) {
        self.known().values_mut().for_each(|backlogged| backlogged.due_us = 0);
    }

    /// Records that no job of this caller is on the direct path any more.
    pub(super) fn cleared(&self, bucket: &str) {
        if let Some(backlogged) = self.known().get_mut(bucket) {
            backlogged.clear = true;
        }
    }

    /// Records that a job has left the deferred path.
    pub(super) fn left(&self, bucket: &str) {
        if let Some(backlogged) = self.known().get_mut(bucket) {
            backlogged.aside = backlogged.aside.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str) -> Bucket {
        Bucket { name: name.to_owned(), interval_us: 100, tolerance_us: 0, slack_us: 0, shared: None }
    }

    #[test]
    fn a_crowd_lasts_until_its_next_slot_and_until_all_are_aside() {
        let (backlogged_callers, a) = (BackloggedCallers::default(), bucket("a"));
        assert_eq!(backlogged_callers.join(&a, 0), AdmissionPath::Direct);
        backlogged_callers.note(&a, 1_000_000, 0);
        assert_eq!(backlogged_callers.join(&a, 999_999), AdmissionPath::Deferred { clear: false });
        backlogged_callers.cleared("a");
        assert_eq!(
            backlogged_callers.join(&a, 1_000_000),
            AdmissionPath::Deferred { clear: true },
            "one is on its way"
        );
        backlogged_callers.note(&a, 1_500_000, 1_000_000);
        backlogged_callers.left("a");
        backlogged_callers.left("a");
        assert_eq!(backlogged_callers.join(&a, 1_500_000), AdmissionPath::Direct);
        backlogged_callers.note(&a, 3_000_000, 2_000_000);
        assert_eq!(
            backlogged_callers.join(&a, 2_000_000),
            AdmissionPath::Deferred { clear: false },
            "one went directly in between"
        );
        backlogged_callers.note(&bucket("b"), NEAR_US - 1, 0);
        assert_eq!(backlogged_callers.join(&bucket("b"), 0), AdmissionPath::Direct, "it is as good as open");
    }

    #[test]
    fn so_many_are_known_and_the_past_makes_room() {
        let backlogged_callers = BackloggedCallers::default();
        for number in 0..2 * MOST {
            backlogged_callers.note(&bucket(&number.to_string()), 1_000_000, 0);
        }
        assert_eq!(backlogged_callers.known().len(), MOST);
        backlogged_callers.join(&bucket("7"), 0);
        backlogged_callers.note(&bucket("late"), 3_000_000, 2_000_000);
        assert_eq!(backlogged_callers.known().len(), 2, "the one whose job is on its way, and the new one");
    }
}
