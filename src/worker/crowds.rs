//! Which callers of a partition have far more jobs than their limits let through, and what of theirs is being put aside.
//!
//! Who is of a crowd goes to Redis on a way beside the others', not before them. A caller's jobs keep their order all the
//! same: they take one way or the other, and change only when nothing of theirs is left on the former.

use crate::limits::Bucket;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;

/// The most that are known at a time. Who floods a queue does so under few names; who does under many is not found here,
/// and treated as everybody is.
const MOST: usize = 1024;

/// A slot as near as this makes no crowd.
const NEAR_US: u64 = 50_000;

/// Which way a job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// With all others.
    Direct,
    /// Aside. Where it is not `clear`, jobs of the same caller may still be on the direct way.
    Aside { clear: bool },
}

#[derive(Debug, Default)]
struct Crowd {
    /// Its next slot, microseconds on Redis's clock.
    due_us: u64,
    /// Jobs on their way aside.
    aside: usize,
    /// Nothing of it is on the direct way.
    clear: bool,
}

impl Crowd {
    const fn lasts(&self, now_us: u64) -> bool {
        self.due_us > now_us || self.aside > 0
    }
}

/// Buckets whose slots are taken for a while, by name.
#[derive(Debug, Default)]
pub(super) struct Crowds(Mutex<HashMap<String, Crowd>>);

impl Crowds {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Crowd>> {
        // Plain figures: whoever panicked while holding the lock left them consistent.
        self.0.lock()
    }

    /// The next slot of `bucket` is at `due_us`.
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

    /// Which way a job that comes now takes. One that goes aside is counted until [`Crowds::left`].
    pub(super) fn join(&self, bucket: &Bucket, now_us: u64) -> Way {
        match self.known().get_mut(&bucket.name) {
            Some(crowd) if crowd.lasts(now_us) => {
                crowd.aside += 1;
                Way::Aside { clear: crowd.clear }
            }
            _ => Way::Direct,
        }
    }

    /// Nothing of this caller is on the direct way any more.
    pub(super) fn cleared(&self, bucket: &str) {
        if let Some(crowd) = self.known().get_mut(bucket) {
            crowd.clear = true;
        }
    }

    /// A job that went aside is there.
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
