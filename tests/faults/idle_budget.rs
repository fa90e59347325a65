//! Resource use of a worker while Redis is not usable: almost none.

use super::process::Process;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A period during which a worker must be alive, not ready, and idle.
pub(crate) struct Rest {
    since: Instant,
    cpu: Option<Duration>,
    errors: u64,
}

impl Rest {
    /// Starts when the worker reports that it is not ready, for this reason.
    pub(crate) async fn begins(worker: &mut Process, reason: &str) -> Self {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match worker.get("/readyz").await {
                Some((503, told)) if told.contains(reason) => break,
                told => assert!(Instant::now() < deadline, "never not ready for {reason:?}, but {told:?}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
        let errors = worker.counter("xco_worker_redis_errors_total").await;
        Self { since: Instant::now(), cpu: worker.cpu(), errors }
    }

    /// Lasts `length` in total. Then the worker must be alive, and must not have used a quarter of a core or sent Redis
    /// more than a few commands a second from each loop.
    pub(crate) async fn lasts(self, worker: &mut Process, length: Duration) {
        sleep((self.since + length).saturating_duration_since(Instant::now())).await;
        let elapsed = self.since.elapsed();
        let used = worker.cpu().zip(self.cpu).map(|(now, before)| now.saturating_sub(before));
        let tried = worker.counter("xco_worker_redis_errors_total").await.saturating_sub(self.errors);
        println!("in {elapsed:?}: {tried} failed attempts, {used:?} of processor time");
        assert!(worker.lives(), "the worker ended");
        assert_eq!(worker.get("/healthz").await.map(|(status, _)| status), Some(200));
        assert_eq!(worker.get("/readyz").await.map(|(status, _)| status), Some(503));
        assert!(used.is_none_or(|used| used < elapsed / 4), "{used:?} of processor time in {elapsed:?}");
        assert!(f64::from(u32::try_from(tried).unwrap()) < 15.0 * (elapsed.as_secs_f64() + 1.0), "{tried} attempts");
    }
}
