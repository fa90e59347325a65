//! Jobs that step aside because their route's breaker is not closed.
//!
//! They are held in Redis like jobs that an operator pauses, so that they take no slot, spend no attempt and stop no others of
//! their lane. Once the route is back they are called up, the oldest first. There are never very many: a lane that holds as
//! many as it may is not read on, and a backlog of a million creations stays where it is.

pub(super) mod watcher;

use crate::contract::{JobType, Lane};
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a job stays aside at most, should it not be called up: then it looks for itself.
pub(super) const LONGEST_MS: u64 = 60_000;

/// How many jobs of a lane and partition may be aside. People are waiting for the interactive ones, and these have deadlines.
const fn most(lane: Lane) -> u64 {
    match lane {
        Lane::Interactive => 10_000,
        Lane::Bulk => 1_000,
    }
}

/// How many are aside in one partition, by route and lane: as of the last count, and those since of this worker.
#[derive(Debug, Default)]
pub(super) struct Aside([[AtomicU64; 2]; JobType::ALL.len()]);

impl Aside {
    fn count(&self, route: JobType, lane: Lane) -> &AtomicU64 {
        &self.0[route as usize][lane as usize]
    }

    /// One more.
    pub(super) fn joined(&self, route: JobType, lane: Lane) {
        self.count(route, lane).fetch_add(1, Ordering::Relaxed);
    }

    fn set(&self, route: JobType, lane: Lane, count: u64) {
        self.count(route, lane).store(count, Ordering::Relaxed);
    }

    fn has(&self, route: JobType, lane: Lane) -> bool {
        self.count(route, lane).load(Ordering::Relaxed) > 0
    }

    fn is_empty(&self) -> bool {
        self.0.iter().flatten().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    /// Whether as many are aside as may be: the lane is not to be read on.
    pub(super) fn is_full(&self, lane: Lane) -> bool {
        let of_lane = self.0.iter().map(|route| route[lane as usize].load(Ordering::Relaxed));
        of_lane.sum::<u64>() >= most(lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_full_with_the_jobs_of_all_routes_and_people_have_more_room() {
        let aside = Aside::default();
        assert!(aside.is_empty() && !aside.is_full(Lane::Bulk));
        aside.set(JobType::CreateUser, Lane::Bulk, 999);
        assert!(!aside.is_full(Lane::Bulk));
        aside.joined(JobType::FinalizeConsent, Lane::Bulk);
        assert!(aside.is_full(Lane::Bulk) && !aside.is_full(Lane::Interactive));
        aside.set(JobType::CreateUser, Lane::Bulk, 0);
        assert!(!aside.is_full(Lane::Bulk) && !aside.is_empty());
        assert!(aside.has(JobType::FinalizeConsent, Lane::Bulk) && !aside.has(JobType::CreateUser, Lane::Bulk));
    }
}
