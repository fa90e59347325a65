//! Enqueues rows as earlier rows end: never more than the window, never faster than the rate.

use super::{
    BackfillError, BackfillProgress, BackfillState, Identity, RowCounts,
    collector::Collector,
    lost::Lost,
    reader::{Chunk, RowJob},
};
use crate::{
    config::Rate,
    operations::{Backend, Progress},
    queue::{
        self, Keys, Link,
        backfill::{self, EnqueueCheckpoint, RowsEnqueued},
        is_transient,
    },
};
use redis::RedisResult;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Delay between two looks for completions, if nothing is to be done.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After this long without an ended row, a note says so.
const SILENCE: Duration = Duration::from_secs(60);
/// Redis may be unreachable for this long: enough for a failover.
const MAX_OUTAGE: Duration = Duration::from_secs(120);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);

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
    pub(super) window: u64,
    pub(super) pace: Option<EnqueueRate>,
    pub(super) chunks: mpsc::Receiver<Chunk>,
    pub(super) reader: Option<JoinHandle<Result<RowCounts, BackfillError>>>,
    pub(super) bytes_read: Arc<AtomicU64>,
    pub(super) bytes: u64,
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
    /// Enqueues rows and collects completions until every valid row has ended, another run takes the batch over, or `stop`.
    ///
    /// # Errors
    /// [`BackfillError`]: a file cannot be read or written, or Redis was unreachable for two minutes. Run it again: it
    /// continues where it was.
    pub async fn run(mut self, backend: &mut Backend<'_>, stop: CancellationToken) -> Result<Ending, BackfillError> {
        let mut waiting: Option<Chunk> = None;
        let mut state = BackfillState { bytes: self.bytes, ..BackfillState::default() };
        let mut lost = Lost::default();
        let mut last_end = Some((Instant::now(), 0));
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
            last_end = self.note_silence(last_end, state.ended);
            if waiting.is_none() {
                waiting = self.chunks.try_recv().ok();
            }
            if let Some(chunk) = waiting.take_if(|chunk| self.has_room(chunk, state.ended)) {
                is_busy = true;
                if self.enqueue(backend, &chunk, &stop).await? == RowsEnqueued::TakenOver {
                    break Ending::Replaced;
                }
                state.counts = chunk.counts;
            } else if waiting.is_none() && self.chunks.is_closed() && self.chunks.is_empty() {
                if let Some(reader) = self.reader.take() {
                    state.counts = self.finish_reading(backend, reader, &stop).await?;
                    state.is_read = true;
                }
                if self.outstanding(state.ended) == 0 {
                    break Ending::Complete;
                }
            }
            self.show(&mut state);
            if !is_busy {
                tokio::select! {
                    () = sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
        };
        self.show(&mut state);
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

    fn show(&self, state: &mut BackfillState) {
        state.bytes_read = self.bytes_read.load(Ordering::Relaxed);
        if let Some(expected) = state.expected() {
            self.progress.set_total(expected);
        }
        self.progress.show(state);
    }

    fn outstanding(&self, ended: u64) -> u64 {
        self.checkpoints.iter().map(|checkpoint| checkpoint.enqueued).sum::<u64>().saturating_sub(ended)
    }

    /// Notes, once, that no row ends. `last` is when the last row ended, and how many had ended by then.
    fn note_silence(&self, last: Option<(Instant, u64)>, ended: u64) -> Option<(Instant, u64)> {
        let (at, rows) = last?;
        let outstanding = self.outstanding(ended);
        if ended != rows || outstanding == 0 {
            return Some((Instant::now(), ended));
        }
        if at.elapsed() < SILENCE {
            return last;
        }
        self.progress
            .note(&format!("{outstanding} rows are under way, and none has ended for a minute: is a worker running?"));
        None
    }

    fn has_room(&self, chunk: &Chunk, ended: u64) -> bool {
        let rows = chunk.jobs.len() as u64;
        rows == 0 || self.outstanding(ended) + rows <= self.window && self.pace.as_ref().is_none_or(EnqueueRate::is_due)
    }

    async fn enqueue(
        &mut self,
        backend: &mut Backend<'_>,
        chunk: &Chunk,
        stop: &CancellationToken,
    ) -> Result<RowsEnqueued, BackfillError> {
        let (progress, batch, run) = (&*self.progress, self.identity.batch(), self.run.as_str());
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

    async fn finish_reading(
        &self,
        backend: &mut Backend<'_>,
        reader: JoinHandle<Result<RowCounts, BackfillError>>,
        stop: &CancellationToken,
    ) -> Result<RowCounts, BackfillError> {
        let counts = reader.await??;
        let json = serde_json::to_string(&counts)?;
        let (first, batch) = (&self.keys[0], self.identity.batch());
        outlast(backend, &*self.progress, stop, async |link| backfill::store_counts(link, first, batch, &json).await)
            .await?;
        Ok(counts)
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
    let mut delay = Duration::from_millis(100);
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
                let _ = timeout(delay, stop.cancelled()).await;
                delay = (delay * 2).min(MAX_RETRY_DELAY);
            }
            Err(error) => return Err(backend.failed()(error).into()),
        }
    }
}
