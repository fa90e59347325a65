//! Delays jobs whose route has a breaker that is not closed.
//!
//! They are delayed in Redis like jobs that an operator pauses: they take no worker slot, spend no attempt and do not
//! block other jobs of their lane. When the route recovers they are resumed, oldest first. Their number is limited:
//! once a lane has delayed its maximum, no new jobs are read from it, so a backlog of a million creations stays in the
//! stream.

pub(super) mod watcher;

use crate::contract::{JobType, Lane};
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum delay of a job before it checks the breaker itself, in milliseconds. Usually it is resumed earlier.
pub(super) const LONGEST_MS: u64 = 60_000;

/// Maximum number of delayed jobs of a lane and partition. Higher for interactive jobs: people wait for them, and they
/// have deadlines.
const fn most(lane: Lane) -> u64 {
    match lane {
        Lane::Interactive => 10_000,
        Lane::Bulk => 1_000,
    }
}

/// Number of delayed jobs in one partition, by route and lane: the last count from Redis plus the jobs that this worker
/// delayed since.
#[derive(Debug, Default)]
pub(super) struct DelayedByRoute([[AtomicU64; 2]; JobType::ALL.len()]);

impl DelayedByRoute {
    fn count(&self, route: JobType, lane: Lane) -> &AtomicU64 {
        &self.0[route as usize][lane as usize]
    }

    /// Counts one more delayed job.
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

    /// Whether the lane has reached its maximum, so that no new jobs may be read from it.
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
        let aside = DelayedByRoute::default();
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
