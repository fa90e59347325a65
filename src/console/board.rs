//! The figures that all visitors look at: one look at Redis serves them all.

use crate::{
    config::Config,
    operations::{
        Error, SharedBackend,
        history::{self, Point, Range},
        status::{Snapshot, SnapshotCollector},
        verdict::{self, Verdict},
    },
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// How often a page with live parts looks.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// A look is used again for this long: a little less than [`EVERY`], so that a tick of a stream finds a new one.
const FRESH: Duration = Duration::from_millis(1_500);
/// Rates over a longer time say nothing of now: they are measured anew.
const RATES_OVER: Duration = Duration::from_secs(30);
/// Time over which the first rates are measured.
const FIRST_OVER: Duration = Duration::from_millis(500);
/// Maximum number of delayed jobs that are read for a look.
const MOST_DELAYED: usize = 5_000;

/// The queue at one moment, and in the hour before.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) snapshot: Snapshot,
    /// The last hour, the oldest point first.
    pub(super) hour: Vec<Point>,
    pub(super) verdict: Verdict,
    /// How long it took to look.
    pub(super) took: Duration,
}

/// Takes looks, one at a time, and only while somebody asks.
#[derive(Default)]
pub(super) struct Board(Mutex<State>);

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
    /// The last look, if it is fresh (or not older than twice the time that it took); else a new one.
    pub(super) async fn look(&self, shared: &SharedBackend, config: &Config) -> Result<Arc<Look>, Error> {
        let mut state = self.0.lock().await;
        let began = Instant::now();
        if let Some((at, look)) = &state.last
            && began.duration_since(*at) < FRESH.max(look.took * 2)
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
        let verdict = verdict::verdict(&snapshot, &hour, now_ms, config.queue.max_pending);
        let look = Arc::new(Look { snapshot, hour, verdict, took: began.elapsed() });
        state.collector = Some(collector);
        state.last = Some((Instant::now(), Arc::clone(&look)));
        Ok(look)
    }

    /// The last look, however old, if no other is being taken.
    pub(super) fn latest(&self) -> Option<Arc<Look>> {
        self.0.try_lock().ok()?.last.as_ref().map(|(_, look)| Arc::clone(look))
    }
}

/// Milliseconds since 1970 of an RFC 3339 time of ours.
pub(super) fn at_ms(at: &str) -> u64 {
    at.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or(0)
}
