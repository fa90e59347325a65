//! Compares the number of jobs in a lane with its maximum, `queue.max_pending`. Workers report the load, and components
//! that accept jobs from outside check it first. Jobs are never refused here, because a plain `XADD` makes no check.

use super::{Keys, Link};
use crate::contract::{Lane, Partitions};
use redis::{RedisResult, pipe};

/// The load of one lane in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Jobs waiting or running in the lane. Delayed jobs are not counted, because they belong to no lane until they are
    /// due.
    pub pending: u64,
    /// Maximum number of pending jobs. 0 means no maximum.
    pub max_pending: u64,
}

impl Load {
    /// Returns a partition's equal share of `queue.max_pending`, which applies to a lane over all partitions.
    pub fn share(max_pending: u64, partitions: Partitions) -> u64 {
        max_pending.div_ceil(u64::from(partitions.get()))
    }

    /// Whether the load is above its maximum. Components that can refuse jobs should then do so.
    pub const fn is_over(self) -> bool {
        self.max_pending > 0 && self.pending > self.max_pending
    }

    /// Whether the load is low enough to end an alarm.
    const fn is_well_below(self) -> bool {
        self.max_pending == 0 || self.pending < self.max_pending - self.max_pending / 10
    }
}

/// Returns the load of a lane. `max_pending` is the partition's share. One round trip, O(1).
pub async fn lane_load(link: &mut Link, keys: &Keys, lane: Lane, max_pending: u64) -> RedisResult<Load> {
    let mut asked = pipe();
    asked.cmd("XLEN").arg(keys.due(lane)).cmd("XLEN").arg(keys.jobs(lane));
    let (due, jobs): (u64, u64) = link.pipeline(&asked).await?;
    Ok(Load { pending: due + jobs, max_pending })
}

/// An alarm that starts when a lane is over its maximum and ends when it is a tenth below. A load that varies around
/// the maximum is thus one alarm.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadAlarm {
    raised: bool,
}

impl LoadAlarm {
    /// Checks a load. Returns `true` if it starts the alarm, `false` if it ends the alarm, and `None` otherwise.
    pub fn look(&mut self, load: Load) -> Option<bool> {
        let raised = if self.raised { !load.is_well_below() } else { load.is_over() };
        (std::mem::replace(&mut self.raised, raised) != raised).then_some(raised)
    }

    /// Whether the alarm is active.
    pub const fn is_raised(self) -> bool {
        self.raised
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_alarm_is_raised_once_and_ended_once() {
        let mut alarm = LoadAlarm::default();
        let told: Vec<_> = [10, 100, 101, 500, 100, 91, 90, 89, 100]
            .map(|pending| alarm.look(Load { pending, max_pending: 100 }))
            .into_iter()
            .collect();
        let expected = [None, None, Some(true), None, None, None, None, Some(false), None];
        assert_eq!(told, expected);
    }

    #[test]
    fn zero_is_no_bound_and_shares_are_even() {
        let share = |max_pending, partitions| Load::share(max_pending, Partitions::new(partitions).unwrap());
        assert!(!Load { pending: u64::MAX, max_pending: share(0, 4) }.is_over());
        assert_eq!(share(1000, 3), 334);
        assert!(Load { pending: 2, max_pending: share(1, 256) }.is_over());
    }
}
