//! XCO's two levels of rate limits, as GCRA on the monotonic clock.

use super::SandboxLimit;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Number of callers above which callers with a full bucket are forgotten.
const MANY_CALLERS: usize = 100_000;

/// The buckets: one for each caller, and one for all calls without a caller.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    callers: HashMap<String, Instant>,
    client: Option<Instant>,
}

impl Buckets {
    /// Spends one call, or returns the wait until one may be spent.
    pub(super) fn take(
        &mut self,
        caller: Option<&str>,
        (caller_limit, client_limit): (Option<SandboxLimit>, Option<SandboxLimit>),
        now: Instant,
    ) -> Result<(), Duration> {
        match (caller, caller_limit, client_limit) {
            (Some(caller), Some(limit), _) => {
                if self.callers.len() > MANY_CALLERS {
                    self.callers.retain(|_, full_at| *full_at > now);
                }
                let taken = spend(self.callers.get(caller).copied(), limit, now)?;
                match self.callers.get_mut(caller) {
                    Some(full_at) => *full_at = taken,
                    None => {
                        self.callers.insert(caller.to_owned(), taken);
                    }
                }
                Ok(())
            }
            (None, _, Some(limit)) => {
                self.client = Some(spend(self.client, limit, now)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Spends one call. `full_at` is the time at which the bucket will be full again.
fn spend(full_at: Option<Instant>, limit: SandboxLimit, now: Instant) -> Result<Instant, Duration> {
    // A rate of zero, or an invalid one, allows one call a day.
    let day = Duration::from_secs(86_400);
    let interval = Duration::try_from_secs_f64(1.0 / limit.per_second).map_or(day, |interval| interval.min(day));
    let full_at = full_at.map_or(now, |at| at.max(now));
    let ahead = full_at.duration_since(now);
    let room = interval.saturating_mul(limit.burst.max(1) - 1);
    match ahead.checked_sub(room) {
        Some(wait) if !wait.is_zero() => Err(wait),
        _ => Ok(full_at + interval),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_burst_then_the_rate_each_caller_alone() {
        let limit = Some(SandboxLimit { per_second: 10.0, burst: 3 });
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(buckets.take(Some("a"), (limit, limit), now), Ok(()));
        }
        assert_eq!(buckets.take(Some("a"), (limit, limit), now), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(Some("b"), (limit, limit), now), Ok(()));
        assert_eq!(buckets.take(Some("a"), (limit, limit), now + Duration::from_millis(100)), Ok(()));
        assert!(buckets.take(Some("a"), (limit, limit), now + Duration::from_millis(150)).is_err());
        assert_eq!(buckets.take(Some("a"), (None, limit), now), Ok(()));
    }

    #[test]
    fn calls_without_a_caller_share_one_bucket() {
        let limit = Some(SandboxLimit { per_second: 1.0, burst: 1 });
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        assert_eq!(buckets.take(None, (None, limit), now), Ok(()));
        assert_eq!(buckets.take(None, (None, limit), now), Err(Duration::from_secs(1)));
        assert_eq!(buckets.take(Some("a"), (None, limit), now), Ok(()));
    }
}
