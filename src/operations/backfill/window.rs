//! How many rows are in the queue at once.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Maximum number of rows in the queue, where the request names none.
pub(super) const MAX_WINDOW: u64 = 10_000;
/// Number of rows in the queue as long as no rate is known, and at least.
const MIN_WINDOW: u64 = 1_000;
/// The queue holds the rows of this time.
const HELD_S: f64 = 30.0;
/// The rate is that of this time.
const MEASURED: Duration = Duration::from_secs(10);

/// How many rows may be in the queue at once. The creation of a customer stands behind the look-ups that are in the queue
/// already: few rows in the queue mean that it comes soon.
pub(super) struct Window {
    fixed: Option<u64>,
    recent: VecDeque<(Instant, u64)>,
    current: u64,
}

impl Window {
    pub(super) fn new(fixed: Option<u64>) -> Self {
        Self { fixed, recent: VecDeque::new(), current: MIN_WINDOW }
    }

    pub(super) fn rows(&self) -> u64 {
        self.fixed.unwrap_or(self.current)
    }

    /// `calls` jobs have ended by `now`.
    pub(super) fn measure(&mut self, now: Instant, calls: u64) {
        if self.recent.back().is_some_and(|(at, _)| now - *at < MEASURED / 20) {
            return;
        }
        self.recent.push_back((now, calls));
        while self.recent.len() > 2 && self.recent.front().is_some_and(|(at, _)| now - *at > MEASURED) {
            self.recent.pop_front();
        }
        let Some((since, before)) = self.recent.front().filter(|(since, _)| *since < now) else { return };
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let per_second = calls.saturating_sub(*before) as f64 / (now - *since).as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let rows = (per_second * HELD_S) as u64;
        self.current = rows.clamp(MIN_WINDOW, MAX_WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_rate() {
        let (start, mut window) = (Instant::now(), Window::new(None));
        let mut run = |from_s: u64, per_second: u64| {
            for second in from_s..from_s + 30 {
                window.measure(start + Duration::from_secs(second), second * per_second);
            }
            window.rows()
        };
        assert_eq!(run(0, 20), MIN_WINDOW);
        assert_eq!(run(30, 100), 3_000);
        assert_eq!(run(60, 5_000), MAX_WINDOW);
        assert_eq!(run(90, 5_000), MAX_WINDOW);
        let mut fixed = Window::new(Some(40));
        fixed.measure(start, 0);
        assert_eq!(fixed.rows(), 40);
    }
}
