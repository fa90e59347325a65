//! Enqueues rows as earlier rows end: never more than the window, never faster than the rate.

use super::{
    BackfillError, BackfillProgress, BackfillState, Identity,
    check_report::CheckReport,
    collector::Collector,
    hindrance::Watch,
    lost::Lost,
    reader::{Chunk, RowJob},
    window::Window,
};
use crate::{
    config::Rate,
    net::Backoff,
    operations::{Backend, Progress},
    queue::{
        self, Keys, Link,
        backfill::{self, EnqueueCheckpoint, RowsEnqueued, customers},
        is_transient,
    },
};
use redis::RedisResult;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Delay between two looks for completions, if nothing is to be done.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Redis may be unreachable for this long: enough for a failover.
const MAX_OUTAGE: Duration = Duration::from_secs(120);
/// Delays between attempts while Redis is unreachable: the first, and the longest.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every valid row has ended.
    Complete,
    /// The run was asked to stop.
    Stopped {
        /// Rows that are enqueued and have not ended. They go on without the run.
        outstanding: u64,
    },
    /// Another run has taken the batch over.
    Replaced,
}

/// A run that has taken its batch over.
pub struct Feeder {
    pub(super) identity: Identity,
    pub(super) keys: Vec<Keys>,
    pub(super) run: String,
    pub(super) checkpoints: Vec<EnqueueCheckpoint>,
    pub(super) collector: Collector,
    pub(super) window: Window,
    pub(super) watch: Watch,
    /// Rows that were looked up before this run.
    pub(super) looked_up: u64,
    pub(super) pace: Option<EnqueueRate>,
    pub(super) chunks: mpsc::Receiver<Chunk>,
    pub(super) reader: Option<JoinHandle<Result<(), BackfillError>>>,
    pub(super) checked: CheckReport,
    pub(super) progress: Arc<dyn BackfillProgress>,
}

/// Spaces rows evenly.
pub(super) struct EnqueueRate {
    rate: Rate,
    next: Instant,
}

impl EnqueueRate {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, next: Instant::now() }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn spend(&mut self, rows: usize) {
        let micros = self.rate.interval_us.saturating_mul(rows as u64);
        // A late look is made up for. Time in which there were no rows or no room is not.
        let earliest = Instant::now().checked_sub(LOOK_EVERY * 5);
        self.next = earliest.map_or(self.next, |earliest| self.next.max(earliest)) + Duration::from_micros(micros);
    }
}

impl Feeder {
    /// What the files hold.
    pub const fn checked(&self) -> &CheckReport {
        &self.checked
    }

    /// Enqueues rows and collects completions until every valid row has ended, another run takes the batch over, or `stop`.
    ///
    /// # Errors
    /// [`BackfillError`]: a file cannot be read or written, or Redis was unreachable for two minutes. Run it again: it
    /// continues where it was.
    pub async fn run(mut self, backend: &mut Backend<'_>, stop: CancellationToken) -> Result<Ending, BackfillError> {
        let mut waiting: Option<Chunk> = None;
        let mut state = BackfillState { counts: self.checked.counts, ..BackfillState::default() };
        let mut lost = Lost::default();
        let ending = loop {
            if stop.is_cancelled() {
                break Ending::Stopped { outstanding: self.outstanding(state.ended) };
            }
            let (mut is_busy, holder) = self.collect(backend, &stop, &mut state).await?;
            if holder.as_deref() != Some(self.run.as_str()) {
                break Ending::Replaced;
            }
            if !is_busy && self.collector.has_missed() && self.outstanding(state.ended) > 0 && lost.is_due() {
                let settled = lost.look(backend, &self.keys, &self.identity).await?;
                is_busy = settled > 0;
                note_lost(&*self.progress, settled);
            }
            self.observe(backend, &mut state).await;
            if waiting.is_none() {
                waiting = self.chunks.try_recv().ok();
            }
            if let Some(chunk) = waiting.take_if(|chunk| self.has_room(chunk, state.ended)) {
                is_busy = true;
                if self.enqueue(backend, &chunk, &stop).await? == RowsEnqueued::TakenOver {
                    break Ending::Replaced;
                }
            } else if waiting.is_none() && self.chunks.is_closed() && self.chunks.is_empty() {
                if let Some(reader) = self.reader.take() {
                    reader.await??;
                }
                if self.outstanding(state.ended) == 0 {
                    break Ending::Complete;
                }
            }
            self.show(&state);
            if !is_busy {
                tokio::select! {
                    () = sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
        };
        self.show(&state);
        Ok(ending)
    }

    /// Collects completions. Returns whether there may be more, and the run that has the batch.
    async fn collect(
        &mut self,
        backend: &mut Backend<'_>,
        stop: &CancellationToken,
        state: &mut BackfillState,
    ) -> Result<(bool, Option<String>), BackfillError> {
        let (progress, collector) = (&*self.progress, &mut self.collector);
        let more = outlast(backend, progress, stop, async |link| collector.step(link).await).await?;
        let (first, batch) = (&self.keys[0], self.identity.batch());
        let (ended, holder) =
            outlast(backend, progress, stop, async |link| backfill::progress(link, first, batch).await).await?;
        let before = state.ended;
        state.set_ended(ended);
        self.progress.advance(state.ended.saturating_sub(before));
        Ok((more, holder))
    }

    fn show(&self, state: &BackfillState) {
        self.progress.set_total(state.counts.valid);
        self.progress.show(state);
    }

    fn outstanding(&self, ended: u64) -> u64 {
        self.checkpoints.iter().map(|checkpoint| checkpoint.enqueued).sum::<u64>().saturating_sub(ended)
    }

    /// Looks how fast rows end, and what keeps them from ending faster. Notes a hindrance that is new.
    async fn observe(&mut self, backend: &mut Backend<'_>, state: &mut BackfillState) {
        state.looked_up =
            (self.looked_up + self.collector.looked_up()).clamp(state.ended, state.counts.valid.max(state.ended));
        self.window.measure(Instant::now(), state.looked_up + state.ended);
        let found = self.watch.look(backend, self.identity.batch()).await;
        if *found != state.hindrance {
            state.hindrance = found.clone();
            if found.stops() {
                self.progress.note(&found.to_string());
            }
        }
    }

    fn has_room(&self, chunk: &Chunk, ended: u64) -> bool {
        let rows = chunk.jobs.len() as u64;
        rows == 0
            || self.outstanding(ended) + rows <= self.window.rows()
                && self.pace.as_ref().is_none_or(EnqueueRate::is_due)
    }

    async fn enqueue(
        &mut self,
        backend: &mut Backend<'_>,
        chunk: &Chunk,
        stop: &CancellationToken,
    ) -> Result<RowsEnqueued, BackfillError> {
        let (progress, batch, run) = (&*self.progress, self.identity.batch(), self.run.as_str());
        let first = &self.keys[0];
        let customers: Vec<(u64, u64)> = chunk.jobs.iter().map(|job| (job.row, job.customer)).collect();
        // The fingerprints first: the jobs may have ended before anything else is written.
        outlast(backend, progress, stop, async |link| customers::record(link, first, batch, &customers).await).await?;
        for (keys, checkpoint) in self.keys.iter().zip(&mut self.checkpoints) {
            let here: Vec<&RowJob> = chunk.jobs.iter().filter(|job| job.partition == keys.partition).collect();
            let Some(last) = here.last() else { continue };
            let jobs: Vec<&str> = here.iter().map(|job| job.json.as_str()).collect();
            let rows = (checkpoint.row, last.row);
            let enqueued = outlast(backend, progress, stop, async |link| {
                backfill::enqueue_rows(link, keys, batch, run, rows, &jobs).await
            });
            if enqueued.await? == RowsEnqueued::TakenOver {
                return Ok(RowsEnqueued::TakenOver);
            }
            checkpoint.row = last.row;
            checkpoint.enqueued += jobs.len() as u64;
        }
        if let Some(pace) = &mut self.pace {
            pace.spend(chunk.jobs.len());
        }
        Ok(RowsEnqueued::Done)
    }
}

/// Notes that rows were recorded as unknown, if any were.
pub(super) fn note_lost(progress: &(impl Progress + ?Sized), rows: u64) {
    if rows > 0 {
        progress.note(&format!(
            "{rows} rows have ended, and their completions were trimmed before they were read: unknown"
        ));
    }
}

/// Retries while Redis is unreachable, for [`MAX_OUTAGE`], or until `stop`. `attempt` must be idempotent.
async fn outlast<T>(
    backend: &mut Backend<'_>,
    progress: &(impl Progress + ?Sized),
    stop: &CancellationToken,
    mut attempt: impl AsyncFnMut(&mut Link) -> RedisResult<T>,
) -> Result<T, BackfillError> {
    let began = Instant::now();
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    let mut is_noted = false;
    loop {
        match attempt(&mut backend.link).await {
            Ok(done) => {
                if is_noted {
                    progress.note("Redis is back");
                }
                return Ok(done);
            }
            Err(error) if is_transient(&error) && began.elapsed() < MAX_OUTAGE && !stop.is_cancelled() => {
                if !std::mem::replace(&mut is_noted, true) {
                    progress.note(&format!("Redis cannot be used: {}; waiting for it", queue::cause(&error)));
                }
                // `stop` ends the delay; the attempt after it is the last.
                let _ = timeout(backoff.next_delay(), stop.cancelled()).await;
            }
            Err(error) => return Err(backend.failed()(error).into()),
        }
    }
}
