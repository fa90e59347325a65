//! Whether the calls that arrived keep to the limits, judged from outside.
//!
//! A call is admitted in Redis and arrives a little later, and what a fault holds back arrives in a bunch: a stopped worker
//! wakes, a stalled way opens. Arrivals alone would accuse a limiter that did nothing wrong. So each call is to be
//! *explained*: there must be a moment, no earlier than the faults of the time account for, at which its bucket had room
//! for it. In clear weather that moment is at most [`CLEAR_US`] before its arrival. Being late a while does not let more
//! calls through in the long run: the bucket is carried on from call to call, so that whoever makes more calls than the
//! limit allows runs out of explanations soon.

use std::collections::VecDeque;

/// How late a call may be when nothing is wrong but that the machine has other things to do.
pub(crate) const CLEAR_US: u64 = 2_000_000;

/// No fault holds a call back for longer: it would have timed out.
const LONGEST_US: u64 = 20_000_000;

/// When faults may have held calls back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In microseconds, in order, without overlaps.
    spans: VecDeque<(u64, u64)>,
}

impl Held {
    /// One more, which must not begin before the one added last.
    pub(crate) fn add(&mut self, from_us: u64, until_us: u64) {
        match self.spans.back_mut() {
            Some((_, last)) if *last >= from_us => *last = until_us.max(*last),
            _ => self.spans.push_back((from_us, until_us)),
        }
    }

    /// Forgets what ended before `before_us`.
    pub(crate) fn forget(&mut self, before_us: u64) {
        while self.spans.front().is_some_and(|(_, until)| *until < before_us) {
            self.spans.pop_front();
        }
    }

    /// The earliest moment at which a call that arrived at `at_us` can have been admitted: so far back that what was not
    /// covered by faults adds up to [`CLEAR_US`].
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

/// One bucket's calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Explained {
    /// When the bucket is full again, were every call admitted as early as possible.
    full_at_us: u64,
    /// The same, were every call admitted when it arrived.
    plain_full_at_us: u64,
}

impl Explained {
    /// One more call, in order of arrival: how much sooner it came than the bucket itself would have had it (0 for most), or
    /// nothing where no moment explains it.
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
