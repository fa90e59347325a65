//! Checks from outside that the arriving calls keep to the limits.
//!
//! A call is admitted in Redis and arrives a little later. Calls delayed by a fault arrive in a burst: a paused worker
//! wakes, or a stalled connection continues. Arrival times alone would blame a correct limiter. Each call must
//! therefore be *explained*: there must be a time, no earlier than the faults account for, at which its bucket had room
//! for it. Without faults that time is at most [`CLEAR_US`] before the arrival. This does not allow more calls in the
//! long run, because the bucket is carried from call to call: a caller above its limit soon has calls without an
//! explanation.

use std::collections::VecDeque;

/// Maximum delay of a call without faults, for example because the machine is busy.
pub(crate) const CLEAR_US: u64 = 2_000_000;

/// Maximum delay of a call by a fault: a longer one would have timed out.
const LONGEST_US: u64 = 20_000_000;

/// Times at which faults may have delayed calls.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In microseconds, in order, without overlaps.
    spans: VecDeque<(u64, u64)>,
}

impl Held {
    /// Adds a period. It must not start before the one added last.
    pub(crate) fn add(&mut self, from_us: u64, until_us: u64) {
        match self.spans.back_mut() {
            Some((_, last)) if *last >= from_us => *last = until_us.max(*last),
            _ => self.spans.push_back((from_us, until_us)),
        }
    }

    /// Forgets periods that ended before `before_us`.
    pub(crate) fn forget(&mut self, before_us: u64) {
        while self.spans.front().is_some_and(|(_, until)| *until < before_us) {
            self.spans.pop_front();
        }
    }

    /// Earliest time at which a call that arrived at `at_us` can have been admitted: [`CLEAR_US`] earlier, not counting
    /// the times of faults.
    pub(crate) fn earliest(&self, at_us: u64) -> u64 {
        let (mut at, mut left) = (at_us, CLEAR_US);
        for (from, until) in self.spans.iter().rev() {
            let uncovered = at.saturating_sub(*until);
            if uncovered >= left {
                break;
            }
            left -= uncovered;
            at = at.min(*from);
        }
        at.saturating_sub(left).max(at_us.saturating_sub(LONGEST_US))
    }
}

/// The calls of one bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Explained {
    /// Time at which the bucket is full again if every call was admitted as early as possible.
    full_at_us: u64,
    /// Time at which the bucket is full again if every call was admitted when it arrived.
    plain_full_at_us: u64,
}

impl Explained {
    /// Adds a call, in order of arrival. Returns how far it was ahead of its bucket (0 for most calls), or `None` if no
    /// admission time explains it.
    pub(crate) fn call(&mut self, at_us: u64, earliest_us: u64, interval_us: u64, burst: u32) -> Option<u64> {
        let room = interval_us * u64::from(burst.max(1) - 1);
        let ahead_us = self.plain_full_at_us.saturating_sub(room).saturating_sub(at_us);
        self.plain_full_at_us = self.plain_full_at_us.max(at_us) + interval_us;
        let admitted = earliest_us.max(self.full_at_us.saturating_sub(room));
        if admitted > at_us {
            return None;
        }
        self.full_at_us = self.full_at_us.max(admitted) + interval_us;
        Some(ahead_us)
    }
}

#[test]
fn calls_at_the_limit_are_explained_and_more_are_not() {
    let (interval, burst) = (500_000, 4);
    let call =
        |bucket: &mut Explained, at: u64| bucket.call(at, at.saturating_sub(CLEAR_US), interval, burst).is_some();
    let mut kept = Explained::default();
    assert!((0..1_000).all(|n| call(&mut kept, 10_000_000 + n * interval)));
    let mut broken = Explained::default();
    // One call in a hundred too many.
    let explained = (0..2_000).take_while(|n| call(&mut broken, 10_000_000 + n * interval * 99 / 100)).count();
    assert!((400..900).contains(&explained), "{explained}");
    let mut bunch = Explained::default();
    let at_once = (0..50).take_while(|_| call(&mut bunch, 10_000_000)).count();
    assert_eq!(at_once, 8, "the burst, and what two seconds' delay explain");
}

#[test]
fn only_time_without_faults_counts() {
    let mut held = Held::default();
    assert_eq!(held.earliest(10_000_000), 8_000_000);
    held.add(5_000_000, 9_000_000);
    assert_eq!(held.earliest(9_500_000), 3_500_000);
    assert_eq!(held.earliest(11_500_000), 9_500_000);
    held.add(8_000_000, 9_400_000);
    assert_eq!(held.earliest(9_500_000), 3_100_000);
    held.forget(9_500_000);
    assert_eq!(held.earliest(9_500_000), 7_500_000);
}
