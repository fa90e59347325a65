//! The delays between the attempts of something that this process repeats while it waits.
//!
//! The delays between a job's attempts are computed elsewhere ([`crate::jobs`] and `queue/lua/limiter`), because they must survive
//! the process.

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use std::time::Duration;

/// Delays that grow: each is twice the one before it, up to a longest. Without jitter.
#[derive(Debug, Clone)]
pub struct Backoff(ExponentialBackoff);

impl Backoff {
    /// Begins with the delay `first`. None is longer than `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let delays = ExponentialBackoffBuilder::new()
            .with_initial_interval(first.min(longest))
            .with_max_interval(longest)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self(delays)
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        // It is `None` only after a maximum of time, and there is none.
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Begins again with the first delay, because an attempt has succeeded.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_begin_again() {
        let of = |first, longest, count: usize| {
            let mut backoff = Backoff::new(Duration::from_millis(first), Duration::from_millis(longest));
            let delays: Vec<_> = (0..count).map(|_| backoff.next_delay()).collect();
            backoff.reset();
            assert_eq!(backoff.next_delay(), delays[0]);
            delays.iter().map(Duration::as_micros).collect::<Vec<_>>()
        };
        assert_eq!(of(100, 1_600, 6), [100_000, 200_000, 400_000, 800_000, 1_600_000, 1_600_000]);
        assert_eq!(of(1_000, 30_000, 6), [1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000, 30_000_000]);
        assert_eq!(of(200, 50, 2), [50_000, 50_000]);
    }
}
