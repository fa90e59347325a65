//! Durations (`500ms`, `10s`, `2m`, `1h`) and rates (`10/s`, `3/m`, `100/h`).

use std::time::Duration;

/// A rate, kept as the time between two calls so that limiter arithmetic stays in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds between calls; at least 1.
    pub interval_us: u64,
}

impl Rate {
    /// Calls a second.
    pub fn per_second(self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let interval = self.interval_us as f64;
        1_000_000.0 / interval
    }
}

/// `500ms`, `10s`, `2m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let _ = text;
    todo!("config helper")
}

/// `10/s`, `3/m`, `100/h`.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let _ = text;
    todo!("config helper")
}
