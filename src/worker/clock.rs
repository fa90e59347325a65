//! Redis's clock, as this process knows it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970 on Redis's clock, from the last reading and the monotonic time since. Times that several
/// processes compare are decided in Redis itself; this serves stamps and estimates, late by a round trip at most.
#[derive(Debug)]
pub(super) struct RedisClock {
    start: Instant,
    offset_ms: AtomicI64,
}

impl RedisClock {
    /// Begins with the local clock, until Redis has been read.
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), offset_ms: AtomicI64::new(i64::try_from(now.as_millis()).unwrap_or(0)) }
    }

    /// Redis just said that it is `now_ms`.
    pub(super) fn set(&self, now_ms: u64) {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.offset_ms.store(now_ms.saturating_sub(self.elapsed_ms()), Ordering::Relaxed);
    }

    /// Now, on Redis's clock.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.offset_ms.load(Ordering::Relaxed).saturating_add(self.elapsed_ms())).unwrap_or(0)
    }

    /// Milliseconds since this process began, on its monotonic clock (which goes on while the process is stopped).
    pub(super) fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
