//! Refuses jobs for a lane that is full (`queue.max_pending`).

use super::problem::{Problem, ProblemKind};
use crate::{
    contract::Lane,
    operations::{LaneLoad, SharedBackend},
};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a reading of the lanes is used.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest time that a client is asked to wait, in seconds.
const MAX_RETRY_AFTER_S: u64 = 60;

/// The load of the lanes, read at most every 250 ms.
#[derive(Debug)]
pub(crate) struct LoadGuard {
    max_pending: u64,
    looked: Mutex<Looked>,
}

#[derive(Debug, Default)]
struct Looked {
    /// When a request last set out to read the lanes.
    begun: Option<Instant>,
    /// When `load` was read.
    at: Option<Instant>,
    load: LaneLoad,
    /// The reading before, for the rate at which a lane empties.
    before: Option<(Instant, LaneLoad)>,
}

impl LoadGuard {
    /// `max_pending` of 0 means no bound.
    pub(crate) fn new(max_pending: u64) -> Self {
        Self { max_pending, looked: Mutex::default() }
    }

    /// Refuses a job for a lane that is full. One request reads the lanes; others meanwhile use the reading before.
    pub(crate) async fn check(&self, shared: &SharedBackend, lane: Lane) -> Result<(), Problem> {
        if self.max_pending == 0 {
            return Ok(());
        }
        if self.must_look() {
            let load = LaneLoad::read(&mut shared.backend()).await?;
            self.note(load, Instant::now());
        }
        let looked = self.looked.lock();
        let held = looked.load.of(lane);
        if held < self.max_pending {
            return Ok(());
        }
        let retry_after_s = retry_after_s(held - self.max_pending + 1, looked.drained_per_second(lane));
        Err(Problem::new(ProblemKind::QueueFull)
            .detail(format!("the {lane} lane holds more than queue.max_pending"))
            .with("lane", lane.as_str())
            .retry_after(retry_after_s))
    }

    fn must_look(&self) -> bool {
        let mut looked = self.looked.lock();
        let is_due = looked.begun.is_none_or(|begun| begun.elapsed() >= LOOK_EVERY);
        if is_due {
            // Others use the reading before, until this one is there.
            looked.begun = Some(Instant::now());
        }
        is_due
    }

    fn note(&self, load: LaneLoad, now: Instant) {
        let mut looked = self.looked.lock();
        looked.before = looked.at.map(|at| (at, looked.load));
        looked.load = load;
        looked.at = Some(now);
    }
}

impl Looked {
    fn drained_per_second(&self, lane: Lane) -> u64 {
        let (Some(at), Some((before_at, before))) = (self.at, self.before) else { return 0 };
        let over_ms = u64::try_from((at - before_at).as_millis()).unwrap_or(u64::MAX).max(1);
        before.of(lane).saturating_sub(self.load.of(lane)).saturating_mul(1_000) / over_ms
    }
}

/// Seconds until the excess has drained, from 1 to 60.
fn retry_after_s(excess: u64, drained_per_second: u64) -> u64 {
    excess.checked_div(drained_per_second).unwrap_or(MAX_RETRY_AFTER_S).clamp(1, MAX_RETRY_AFTER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_until_the_excess_has_drained() {
        assert_eq!(retry_after_s(100, 10), 10);
        assert_eq!(retry_after_s(1, 1_000), 1);
        assert_eq!(retry_after_s(1_000_000, 10), 60);
        assert_eq!(retry_after_s(1, 0), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_between_two_readings() {
        let guard = LoadGuard::new(1);
        for (bulk, elapsed_ms) in [(1_000, 0), (900, 2_000)] {
            tokio::time::advance(Duration::from_millis(elapsed_ms)).await;
            assert!(guard.must_look() && !guard.must_look());
            guard.note(LaneLoad::new(0, bulk), Instant::now());
        }
        assert_eq!(guard.looked.lock().drained_per_second(Lane::Bulk), 50);
    }
}
