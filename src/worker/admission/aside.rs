//! Sets aside the jobs of backlogged callers: delays them until their reservations, without worker slots.

use super::{ActiveJob, Admitter, Asks};
use crate::worker::decode::BackloggedJobs;
use std::sync::Arc;

/// Number of jobs set aside in one round trip. Small, because Redis does nothing else meanwhile and they are not urgent.
const FEW: usize = 16;

/// The same, if more than [`CROWD`] are waiting. A script call costs Redis as much as about ten jobs in it do, and jobs
/// behind these are reached sooner this way.
const MANY: usize = 128;

/// More waiting jobs than this came at once.
const CROWD: usize = 64;

/// Number of jobs to set aside in each round trip, if `waiting` wait.
const fn batch_size(waiting: usize) -> usize {
    if waiting > CROWD { MANY } else { FEW }
}

impl Admitter {
    /// Delays jobs of backlogged callers until their reservations. They make no calls, so they need no slots.
    pub(in crate::worker) async fn put_aside(&mut self, mut backlogged: BackloggedJobs) {
        let context = Arc::clone(&self.context);
        let backlogged_callers = &context.partitions[self.partition].backlogged_callers;
        let size = batch_size(backlogged.jobs.len());
        while !backlogged.is_empty() {
            if self.stop.is_cancelled() {
                return backlogged.release();
            }
            let mut batch: Vec<Box<ActiveJob>> = backlogged.jobs.drain(..backlogged.jobs.len().min(size)).collect();
            let names: Vec<String> = batch.iter().map(|active| active.bucket.name.clone()).collect();
            if context.control.any() {
                batch = self.screen(batch).await;
            }
            if !batch.is_empty() {
                self.admit(batch, Asks::ToWait).await;
            }
            for name in names {
                backlogged_callers.left(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_go_together_only_if_they_came_at_once() {
        assert_eq!([1, CROWD, CROWD + 1, 1000].map(batch_size), [FEW, FEW, MANY, MANY]);
    }
}
