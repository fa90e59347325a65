//! The figures that many readers look at: one look at Redis serves them all.

use super::{
    Error, SharedBackend,
    history::{self, Point, Range},
    status::{Snapshot, SnapshotCollector},
    verdict::{self, Verdict},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// Rates over a longer time say nothing of now: they are measured anew.
const RATES_OVER: Duration = Duration::from_secs(30);
/// Time over which the first rates are measured.
const FIRST_OVER: Duration = Duration::from_millis(500);
/// Maximum number of delayed jobs that are read for a look.
const MOST_DELAYED: usize = 5_000;

/// The queue at one moment, and in the hour before.
#[derive(Debug)]
pub struct Look {
    /// The status of the queue.
    pub snapshot: Snapshot,
    /// The last hour, the oldest point first.
    pub hour: Vec<Point>,
    /// What it means, in one sentence.
    pub verdict: Verdict,
    /// How long it took to look.
    pub took: Duration,
}

/// Takes looks, one at a time, and only while somebody asks.
pub struct Board {
    state: Mutex<State>,
    /// `queue.max_pending`, beyond which a lane is full.
    max_pending: u64,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    collector: Option<SnapshotCollector>,
    last: Option<(Instant, Arc<Look>)>,
}

impl Board {
    /// A board without a look. `max_pending` is `queue.max_pending`.
    pub fn new(max_pending: u64) -> Self {
        Self { state: Mutex::default(), max_pending }
    }

    /// The last look, if it is younger than `fresh` (or than twice the time that it took); else a new one.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn look(&self, shared: &SharedBackend, fresh: Duration) -> Result<Arc<Look>, Error> {
        let mut state = self.state.lock().await;
        let began = Instant::now();
        if let Some((at, look)) = &state.last
            && began.duration_since(*at) < fresh.max(look.took * 2)
        {
            return Ok(Arc::clone(look));
        }
        let is_fresh = state.last.as_ref().is_some_and(|(at, _)| began.duration_since(*at) < RATES_OVER);
        let mut backend = shared.backend_for_scans();
        let mut collector = if let Some(collector) = state.collector.take().filter(|_| is_fresh) {
            collector
        } else {
            let collector = SnapshotCollector::start(&mut backend, MOST_DELAYED).await?;
            sleep(FIRST_OVER).await;
            collector
        };
        let began = Instant::now();
        let snapshot = collector.collect(&mut backend).await?;
        let hour = history::read(&mut backend, Range::Hour).await?;
        let now_ms = at_ms(&snapshot.at);
        let verdict = verdict::verdict(&snapshot, &hour, now_ms, self.max_pending);
        let look = Arc::new(Look { snapshot, hour, verdict, took: began.elapsed() });
        state.collector = Some(collector);
        state.last = Some((Instant::now(), Arc::clone(&look)));
        Ok(look)
    }

    /// The last look, however old, if no other is being taken.
    pub fn latest(&self) -> Option<Arc<Look>> {
        self.state.try_lock().ok()?.last.as_ref().map(|(_, look)| Arc::clone(look))
    }
}

/// Milliseconds since 1970 of an RFC 3339 time of ours.
pub fn at_ms(at: &str) -> u64 {
    at.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or(0)
}
