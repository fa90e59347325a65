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
pub(super) enum Way {
    /// Together with all other callers.
    Direct,
    /// The deferred path. Unless `clear`, jobs of the same caller may still be on the direct path.
    Aside { clear: bool },
}

#[derive(Debug, Default)]
struct Crowd {
    /// The caller's next reservation, in microseconds on Redis's clock.
    due_us: u64,
    /// Number of the caller's jobs on the deferred path.
    aside: usize,
    /// Whether no job of the caller is on the direct path.
    clear: bool,
}

impl Crowd {
    const fn lasts(&self, now_us: u64) -> bool {
        self.due_us > now_us || self.aside > 0
    }
}

/// Buckets of backlogged callers, by name.
#[derive(Debug, Default)]
pub(super) struct Crowds(Mutex<HashMap<String, Crowd>>);

impl Crowds {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Crowd>> {
        // Plain figures: they are consistent even if a thread panicked while holding the lock.
        self.0.lock()
    }

    /// Records that the next reservation of `bucket` is at `due_us`.
    pub(super) fn note(&self, bucket: &Bucket, due_us: u64, now_us: u64) {
        if due_us < now_us.saturating_add(NEAR_US) {
            return;
        }
        let mut known = self.known();
        if let Some(crowd) = known.get_mut(&bucket.name) {
            crowd.clear &= crowd.lasts(now_us);
            crowd.due_us = due_us;
            return;
        }
        if known.len() >= MOST {
            known.retain(|_, crowd| crowd.lasts(now_us));
        }
        if known.len() < MOST {
            known.insert(bucket.name.clone(), Crowd { due_us, ..Crowd::default() });
        }
    }

    /// Chooses the path of a new job. A job on the deferred path is counted until [`Crowds::left`].
    pub(super) fn join(&self, bucket: &Bucket, now_us: u64) -> Way {
        match self.known().get_mut(&bucket.name) {
            Some(crowd) if crowd.lasts(now_us) => {
                crowd.aside += 1;
                Way::Aside { clear: crowd.clear }
            }
            _ => Way::Direct,
        }
    }

    /// Records that no job of this caller is on the direct path any more.
    pub(super) fn cleared(&self, bucket: &str) {
        if let Some(crowd) = self.known().get_mut(bucket) {
            crowd.clear = true;
        }
    }

    /// Records that a job has left the deferred path.
    pub(super) fn left(&self, bucket: &str) {
        if let Some(crowd) = self.known().get_mut(bucket) {
            crowd.aside = crowd.aside.saturating_sub(1);
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
        let (crowds, a) = (Crowds::default(), bucket("a"));
        assert_eq!(crowds.join(&a, 0), Way::Direct);
        crowds.note(&a, 1_000_000, 0);
        assert_eq!(crowds.join(&a, 999_999), Way::Aside { clear: false });
        crowds.cleared("a");
        assert_eq!(crowds.join(&a, 1_000_000), Way::Aside { clear: true }, "one is on its way");
        crowds.note(&a, 1_500_000, 1_000_000);
        crowds.left("a");
        crowds.left("a");
        assert_eq!(crowds.join(&a, 1_500_000), Way::Direct);
        crowds.note(&a, 3_000_000, 2_000_000);
        assert_eq!(crowds.join(&a, 2_000_000), Way::Aside { clear: false }, "one went directly in between");
        crowds.note(&bucket("b"), NEAR_US - 1, 0);
        assert_eq!(crowds.join(&bucket("b"), 0), Way::Direct, "it is as good as open");
    }

    #[test]
    fn so_many_are_known_and_the_past_makes_room() {
        let crowds = Crowds::default();
        for number in 0..2 * MOST {
            crowds.note(&bucket(&number.to_string()), 1_000_000, 0);
        }
        assert_eq!(crowds.known().len(), MOST);
        crowds.join(&bucket("7"), 0);
        crowds.note(&bucket("late"), 3_000_000, 2_000_000);
        assert_eq!(crowds.known().len(), 2, "the one whose job is on its way, and the new one");
    }
}
