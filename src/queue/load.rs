//! What a lane holds against what it may: `queue.max_pending`. Workers report it; whoever takes jobs from outside asks
//! before taking more. Jobs are never refused here: a plain `XADD` asks nobody.

use super::{Keys, Link};
use crate::contract::Lane;
use redis::{RedisResult, pipe};

/// A lane of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Jobs that wait in it or are under way; parked ones, which belong to no lane until they are due, not counted.
    pub pending: u64,
    /// How many that may be, at most; 0: any number.
    pub max_pending: u64,
}

impl Load {
    /// A partition's share of `queue.max_pending`, which is for a lane over all partitions: an even part.
    pub fn share(max_pending: u64, partitions: u16) -> u64 {
        max_pending.div_ceil(u64::from(partitions.max(1)))
    }

    /// Whether it holds more than it may: whoever can refuse jobs should.
    pub const fn is_over(self) -> bool {
        self.max_pending > 0 && self.pending > self.max_pending
    }

    /// Whether it has come back so far that an alarm may end.
    const fn is_well_below(self) -> bool {
        self.max_pending == 0 || self.pending < self.max_pending - self.max_pending / 10
    }
}

/// A lane's load; `max_pending` is the partition's share. One round trip, O(1).
pub async fn lane_load(link: &mut Link, keys: &Keys, lane: Lane, max_pending: u64) -> RedisResult<Load> {
    let mut asked = pipe();
    asked.cmd("XLEN").arg(keys.due(lane)).cmd("XLEN").arg(keys.jobs(lane));
    let (due, jobs): (u64, u64) = link.pipeline(&asked).await?;
    Ok(Load { pending: due + jobs, max_pending })
}

/// Raised when a lane is over, and not ended before it is a tenth below: a load that swings about the bound is one alarm.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadAlarm {
    raised: bool,
}

impl LoadAlarm {
    /// Looks at a load; tells `true` when the alarm is raised by it, `false` when it is ended, nothing in between.
    pub fn look(&mut self, load: Load) -> Option<bool> {
        let raised = if self.raised { !load.is_well_below() } else { load.is_over() };
        (std::mem::replace(&mut self.raised, raised) != raised).then_some(raised)
    }

    /// Whether it is raised.
    pub const fn is_raised(self) -> bool {
        self.raised
    }
}

#[cfg(test)]
mod tests {
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
        assert!(!Load { pending: u64::MAX, max_pending: Load::share(0, 4) }.is_over());
        assert_eq!(Load::share(1000, 3), 334);
        assert!(Load { pending: 2, max_pending: Load::share(1, 256) }.is_over());
    }
}
