//! This process's estimate of Redis's clock, and the detection of its steps.

use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Difference from the expected time, beyond a round trip, from which on Redis's clock counts as stepped. NTP slews
/// smaller differences.
pub(super) const STEP_BOUND_MS: i64 = 500;

/// Milliseconds since 1970 on Redis's clock, computed from the last reading and the monotonic time since then. Redis
/// itself decides about times that several processes compare. This clock serves timestamps and estimates, and is late
/// by at most a round trip.
#[derive(Debug)]
pub(super) struct RedisClock {
    start: Instant,
    offset_ms: AtomicI64,
    /// Time of the last warning about an entry from the future.
    warned_at_ms: AtomicI64,
    /// By partition, because in a cluster each has a Redis with its own clock.
    expected: Mutex<Vec<Option<Reading>>>,
}

const NEVER: i64 = i64::MIN;
const WARN_EVERY_MS: i64 = 60_000;

/// Difference between Redis's clock and this process's clock, as a range, from one reading. Redis read its clock
/// between the question and the answer.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_field_names, reason = "the unit")]
struct Reading {
    asked_at_ms: i64,
    least_ms: i64,
    most_ms: i64,
}

/// A step of Redis's clock: NTP set it, or another server with another clock took over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockStep {
    /// Minimum size of the step in milliseconds; negative if the clock went back.
    pub(super) by_ms: i64,
}

impl ClockStep {
    /// Label for the metric: `back` or `forward`.
    pub(super) const fn direction(self) -> &'static str {
        if self.by_ms < 0 { "back" } else { "forward" }
    }
}

impl RedisClock {
    /// Starts from the local clock, until Redis has been read.
    pub(super) fn new(partitions: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: Instant::now(),
            offset_ms: AtomicI64::new(i64::try_from(now.as_millis()).unwrap_or(0)),
            warned_at_ms: AtomicI64::new(NEVER),
            expected: Mutex::new(vec![None; partitions]),
        }
    }

    /// Sets the clock to `now_ms`, a time that Redis just reported.
    pub(super) fn set(&self, now_ms: u64) {
        self.offset_ms.store(signed(now_ms).saturating_sub(self.elapsed_ms()), Ordering::Relaxed);
    }

    /// Sets the clock to `now_ms`, reported by a partition's Redis and requested at `asked_at_ms` of this process's
    /// clock. Returns a step if the reading proves one: a difference from the previous reading that the round trips do
    /// not explain.
    pub(super) fn read(&self, partition: usize, asked_at_ms: i64, now_ms: u64) -> Option<ClockStep> {
        self.set(now_ms);
        self.compare(partition, asked_at_ms, self.elapsed_ms(), now_ms)
    }

    fn compare(&self, partition: usize, asked_at_ms: i64, answered_at_ms: i64, now_ms: u64) -> Option<ClockStep> {
        let now_ms = signed(now_ms);
        let reading = Reading {
            asked_at_ms,
            least_ms: now_ms.saturating_sub(answered_at_ms),
            most_ms: now_ms.saturating_sub(asked_at_ms),
        };
        // A plain pair: it is consistent even if a thread panicked while holding the lock.
        let mut expected = self.expected.lock();
        let expected_here = expected.get_mut(partition)?;
        if expected_here.is_some_and(|before| before.asked_at_ms > asked_at_ms) {
            // A late answer: that of a later question has arrived before it.
            return None;
        }
        let before = expected_here.replace(reading)?;
        drop(expected);
        let forward_ms = reading.least_ms.saturating_sub(before.most_ms);
        let back_ms = before.least_ms.saturating_sub(reading.most_ms);
        let by_ms = if forward_ms > STEP_BOUND_MS {
            forward_ms
        } else if back_ms > STEP_BOUND_MS {
            -back_ms
        } else {
            return None;
        };
        Some(ClockStep { by_ms })
    }

    /// Whether a warning about an entry from the future is due: at most one a minute.
    pub(super) fn may_warn_of_future(&self) -> bool {
        let (now_ms, before_ms) = (self.elapsed_ms(), self.warned_at_ms.load(Ordering::Relaxed));
        let due = before_ms == NEVER || now_ms.saturating_sub(before_ms) >= WARN_EVERY_MS;
        due && self.warned_at_ms.compare_exchange(before_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Earliest possible present time on Redis's clock, unless that was set back since it was read. `None` before the
    /// first reading.
    pub(super) fn least_ms(&self, partition: usize) -> Option<u64> {
        let before = self.last_reading(partition)?;
        u64::try_from(before.least_ms.saturating_add(self.elapsed_ms())).ok()
    }

    fn last_reading(&self, partition: usize) -> Option<Reading> {
        // Plain figures: they are consistent even if a thread panicked while holding the lock.
        self.expected.lock().get(partition).copied().flatten()
    }

    /// Present time on Redis's clock, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.offset_ms.load(Ordering::Relaxed).saturating_add(self.elapsed_ms())).unwrap_or(0)
    }

    /// Milliseconds since this process started, on its monotonic clock, which continues while the process is stopped.
    pub(super) fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Milliseconds since this process started, as breakers count them.
    pub(super) fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.elapsed_ms()).unwrap_or(0)
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_732_265_000_000;

    #[test]
    fn a_step_is_what_question_and_answer_do_not_explain() {
        let clock = RedisClock::new(1);
        assert_eq!(clock.compare(0, 0, 10, T), None, "the first reading");
        assert_eq!(clock.compare(0, 1_000, 1_010, T + 1_005), None);
        // The question took long, and Redis may have answered at any moment of it.
        assert_eq!(clock.compare(0, 2_000, 12_000, T + 2_001), None);
        assert_eq!(clock.compare(0, 13_000, 13_001, T + 13_000), None);
        assert_eq!(clock.compare(0, 14_000, 14_002, T + 14_400), None, "less than the bound");
        assert_eq!(clock.compare(0, 15_000, 15_002, T - 585_000), Some(ClockStep { by_ms: -600_398 }));
        assert_eq!(clock.compare(0, 16_000, 16_002, T - 584_000), None, "from then on that is the clock");
        assert_eq!(clock.compare(0, 9_000, 16_003, T + 9_001), None, "an answer from before the step that comes late");
        assert_eq!(clock.compare(0, 17_000, 17_000, T + 17_000), Some(ClockStep { by_ms: 600_000 }));
    }

    #[test]
    fn what_redis_says_next_is_known_within_bounds() {
        let clock = RedisClock::new(1);
        assert_eq!(clock.least_ms(0), None);
        let at_ms = clock.elapsed_ms();
        clock.compare(0, at_ms - 40, at_ms, T);
        assert!(clock.least_ms(0).is_some_and(|ms| (T..T + 5_000).contains(&ms)));
    }
}
