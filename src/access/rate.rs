//! Limits of what one token may ask for.

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use std::{fmt, num::NonZeroU32, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const fn rate(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// A limiter that says how much is left.
type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// The rates of every token, for the header `RateLimit-Policy`: how many at once, and the seconds after which they are free again.
pub const POLICY: &str = "\"requests\";q=1000;w=2, \"jobs\";q=5000;w=1";

/// Requests that a token may make in a second, and at once.
pub const REQUESTS_PER_SECOND: NonZeroU32 = rate(500);
const REQUESTS_AT_ONCE: NonZeroU32 = rate(1_000);
/// Jobs that a token may enqueue in a second, and at once.
const JOBS_PER_SECOND: NonZeroU32 = rate(5_000);
const JOBS_AT_ONCE: NonZeroU32 = rate(5_000);

/// Streams of jobs, exports and results that a token may have open at once. Each holds a task, buffers and a place at Redis as long as
/// its client likes.
const STREAMS_AT_ONCE: usize = 16;

/// A bound that a token has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this token may {bound}")]
pub struct Exceeded {
    bound: Bound,
    /// When the next one is allowed, in seconds.
    pub retry_after_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    PerSecond(&'static str, NonZeroU32),
    Streams,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(what, number) => write!(f, "send {number} {what} a second"),
            Self::Streams => write!(f, "have {STREAMS_AT_ONCE} streams open at once"),
        }
    }
}

/// A stream of jobs, an export or results that is open. Dropping it closes it.
#[derive(Debug)]
pub struct OpenStream(#[allow(dead_code, reason = "it is held")] OwnedSemaphorePermit);

/// What one token has used of its rates, in this process.
pub struct TokenRate {
    streams: Arc<Semaphore>,
    requests: Limiter,
    jobs: Limiter,
}

impl fmt::Debug for TokenRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRate").finish_non_exhaustive()
    }
}

impl TokenRate {
    pub(super) fn new() -> Self {
        Self {
            streams: Arc::new(Semaphore::new(STREAMS_AT_ONCE)),
            requests: limiter(Quota::per_second(REQUESTS_PER_SECOND).allow_burst(REQUESTS_AT_ONCE)),
            jobs: limiter(Quota::per_second(JOBS_PER_SECOND).allow_burst(JOBS_AT_ONCE)),
        }
    }

    /// Counts one request. Returns how many more may follow at once.
    pub fn request(&self) -> Result<u32, Exceeded> {
        check(&self.requests, "requests", REQUESTS_PER_SECOND)
    }

    /// Counts one job of a request with one job.
    pub fn job(&self) -> Result<(), Exceeded> {
        check(&self.jobs, "jobs", JOBS_PER_SECOND).map(drop)
    }

    /// Counts a stream as open until it is dropped.
    pub fn stream(&self) -> Result<OpenStream, Exceeded> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        permit.map(OpenStream).map_err(|_| Exceeded { bound: Bound::Streams, retry_after_s: 1 })
    }

    /// Waits until `count` more jobs may be enqueued: in a stream of jobs, the rate slows the reading of the socket.
    pub async fn wait_for_jobs(&self, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        while let Some(some) = NonZeroU32::new(left.min(JOBS_AT_ONCE.get())) {
            // It fails only for more than the burst.
            let _ = self.jobs.until_n_ready(some).await;
            left -= some.get();
        }
    }
}

fn limiter(quota: Quota) -> Limiter {
    RateLimiter::direct(quota).with_middleware()
}

fn check(limiter: &Limiter, what: &'static str, per_second: NonZeroU32) -> Result<u32, Exceeded> {
    limiter.check().map(|left| left.remaining_burst_capacity()).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        Exceeded { bound: Bound::PerSecond(what, per_second), retry_after_s: wait.as_secs() + 1 }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn more_than_the_burst_is_refused_with_a_time() {
        let rate = TokenRate::new();
        assert_eq!(rate.request().unwrap(), REQUESTS_AT_ONCE.get() - 1);
        // A slow machine wins back at most a few of them meanwhile.
        let refused = (0..1_000_000).find_map(|_| rate.request().err()).unwrap();
        assert_eq!(refused.retry_after_s, 1);
        assert_eq!(refused.to_string(), "this token may send 500 requests a second");
        let refused = (0..1_000_000).find_map(|_| rate.job().err()).unwrap();
        assert_eq!(refused.to_string(), "this token may send 5000 jobs a second");
        let mut open: Vec<_> = (0..STREAMS_AT_ONCE).map(|_| rate.stream().unwrap()).collect();
        assert_eq!(rate.stream().unwrap_err().to_string(), "this token may have 16 streams open at once");
        open.pop();
        assert!(rate.stream().is_ok());
    }
}
