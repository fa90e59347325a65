//! Which callers have far more jobs than their limits let through: what is known without asking Redis.
//!
//! A hint, and no more: a job that is taken for one of a crowd is asked about all the same, only not before others.

use crate::limits::Bucket;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The most that are known at a time. Who floods a queue does so under few names; who does under many is not found here,
/// and treated as everybody is.
const MOST: usize = 1024;

/// A slot as near as this makes no crowd.
const NEAR_US: u64 = 50_000;

/// Buckets whose slots are taken for a while.
#[derive(Debug, Default)]
pub(super) struct Crowds(Mutex<HashMap<String, u64>>);

impl Crowds {
    fn until(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // Plain times: whoever panicked while holding the lock left them as good as they were.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next slot of `bucket` is at `due_us`.
    pub(super) fn note(&self, bucket: &Bucket, due_us: u64, now_us: u64) {
        if due_us < now_us.saturating_add(NEAR_US) {
            return;
        }
        let mut until = self.until();
        if let Some(known) = until.get_mut(&bucket.name) {
            *known = due_us;
            return;
        }
        if until.len() >= MOST {
            until.retain(|_, due_us| *due_us > now_us);
        }
        if until.len() < MOST {
            until.insert(bucket.name.clone(), due_us);
        }
    }

    /// Whether a job that comes now waits for `bucket`, as far as is known.
    pub(super) fn is_crowded(&self, bucket: &Bucket, now_us: u64) -> bool {
        self.until().get(&bucket.name).is_some_and(|due_us| *due_us > now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str) -> Bucket {
        Bucket { name: name.to_owned(), interval_us: 100, tolerance_us: 0, slack_us: 0, shared: None }
    }

    #[test]
    fn a_crowd_lasts_until_its_next_slot() {
        let crowds = Crowds::default();
        crowds.note(&bucket("a"), 1_000_000, 0);
        assert!(crowds.is_crowded(&bucket("a"), 999_999));
        assert!(!crowds.is_crowded(&bucket("a"), 1_000_000) && !crowds.is_crowded(&bucket("b"), 0));
        crowds.note(&bucket("a"), 2_000_000, 1_000_000);
        assert!(crowds.is_crowded(&bucket("a"), 1_000_000));
        crowds.note(&bucket("b"), NEAR_US - 1, 0);
        assert!(!crowds.is_crowded(&bucket("b"), 0), "it is as good as open");
    }

    #[test]
    fn so_many_are_known_and_the_past_makes_room() {
        let crowds = Crowds::default();
        for number in 0..2 * MOST {
            crowds.note(&bucket(&number.to_string()), 1_000_000, 0);
        }
        assert_eq!(crowds.until().len(), MOST);
        crowds.note(&bucket("late"), 3_000_000, 2_000_000);
        assert_eq!(crowds.until().len(), 1);
    }
}
