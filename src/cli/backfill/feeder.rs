//! Feeding rows as earlier ones end: never more than the window under way, never faster than the rate.

use super::{
    BackfillArgs,
    files::Rejects,
    lost::Lost,
    plan::Plan,
    progress::{Progress, State},
    reading::{self, Chunk, Job},
};
use crate::{
    backfill::{Collector, Counts, Rows},
    cli::{redis_access, say},
    config::{Rate, RedisConfig},
    queue::{
        Keys, Link,
        backfill::{self, Ended, Fed, MAX_ROWS, Mark},
        is_transient,
    },
};
use redis::RedisResult;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often an idle run looks for completions.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After so long without an end, whoever waits is told.
const SILENCE: Duration = Duration::from_secs(60);
/// How long Redis may be gone: time for a failover.
const PATIENCE: Duration = Duration::from_secs(120);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How a run ended.
pub(super) enum Ending {
    /// Every valid row has ended.
    Complete,
    /// By a signal.
    Stopped {
        /// Rows enqueued that have not ended.
        outstanding: u64,
    },
    /// Another run has taken the batch over.
    Replaced,
}

/// A run that has taken its batch over.
pub(super) struct Feeder<'a> {
    redis: &'a RedisConfig,
    keys: Vec<Keys>,
    batch: &'a str,
    run: String,
    marks: Vec<Mark>,
    collector: Collector,
    window: u64,
    most: usize,
    pace: Option<Pace>,
    plan: &'a Plan,
}

/// Spaces rows out.
struct Pace {
    rate: Rate,
    next: Instant,
}

impl Pace {
    /// Whether rows may go now.
    fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn spend(&mut self, rows: usize) {
        let micros = self.rate.interval_us.saturating_mul(rows as u64);
        // A look that came late is made up for; what was not used for want of rows or room is not.
        let earliest = Instant::now().checked_sub(LOOK_EVERY * 5);
        self.next = earliest.map_or(self.next, |earliest| self.next.max(earliest)) + Duration::from_micros(micros);
    }
}

impl<'a> Feeder<'a> {
    /// Takes the batch over: from here on no other run feeds it.
    pub(super) async fn start(
        link: &mut Link,
        keys: Vec<Keys>,
        plan: &'a Plan,
        args: &BackfillArgs,
        redis: &'a RedisConfig,
    ) -> anyhow::Result<Self> {
        let run = uuid::Uuid::new_v4().to_string();
        let failed = |error| redis_access::unreachable(redis, &error);
        let mut marks = Vec::with_capacity(keys.len());
        for keys in &keys {
            marks.push(backfill::take_over(link, keys, &plan.batch, &run).await.map_err(failed)?);
        }
        let collector = Collector::start(link, keys.clone(), &plan.batch).await.map_err(failed)?;
        // A tenth of a second's worth at most, so that a rate is kept evenly; a part of the window, so that it stays full.
        let by_rate = args.rate.map_or(MAX_ROWS as u64, |rate| 100_000 / rate.interval_us.max(1));
        let most = by_rate.min(args.window / 4).clamp(1, MAX_ROWS as u64);
        Ok(Self {
            redis,
            keys,
            batch: &plan.batch,
            run,
            marks,
            collector,
            window: args.window,
            most: usize::try_from(most).unwrap_or(MAX_ROWS),
            pace: args.rate.map(|rate| Pace { rate, next: Instant::now() }),
            plan,
        })
    }

    /// Feeds and collects until every valid row has ended, or `stop`.
    pub(super) async fn run(
        mut self,
        link: &mut Link,
        rows: Rows,
        rejects: Rejects,
        read: Arc<AtomicU64>,
        stop: CancellationToken,
    ) -> anyhow::Result<Ending> {
        let mut progress = Progress::start(self.plan, read)?;
        let (sender, mut chunks) = mpsc::channel(4);
        let (marks, most) = (self.marks.clone(), self.most);
        let mut reader = Some(tokio::task::spawn_blocking(move || reading::read(rows, rejects, &marks, most, &sender)));
        let mut waiting: Option<Chunk> = None;
        let mut state = State::default();
        let mut lost = Lost::default();
        let mut last_end = Some((Instant::now(), 0));
        let ending = loop {
            if stop.is_cancelled() {
                break Ending::Stopped { outstanding: self.outstanding(state.ended) };
            }
            let collector = &mut self.collector;
            let mut busy = outlast(self.redis, &stop, async || collector.step(link).await).await?;
            let (first, batch) = (&self.keys[0], self.batch);
            let (ended, holder) =
                outlast(self.redis, &stop, async || backfill::standing(link, first, batch).await).await?;
            if holder.as_deref() != Some(self.run.as_str()) {
                break Ending::Replaced;
            }
            state.ended = ended;
            if !busy && self.collector.has_missed() && self.outstanding(ended) > 0 && lost.is_due() {
                let settled = lost.look(link, &self.keys, self.plan).await?;
                busy = settled > 0;
                tell_lost(settled);
            }
            last_end = self.wonder(last_end, ended);
            if waiting.is_none() {
                waiting = chunks.try_recv().ok();
            }
            if let Some(chunk) = waiting.take_if(|chunk| self.has_room(chunk, state.ended)) {
                busy = true;
                if self.feed(link, &chunk, &stop).await? == Fed::NotOurs {
                    break Ending::Replaced;
                }
                state.counts = chunk.counts;
            } else if waiting.is_none() && chunks.is_closed() && chunks.is_empty() {
                if let Some(reader) = reader.take() {
                    state.counts = self.finish_reading(link, reader, &stop).await?;
                    state.read_all = true;
                }
                if self.outstanding(state.ended) == 0 {
                    break Ending::Complete;
                }
            }
            progress.show(&state);
            if !busy {
                tokio::select! {
                    () = sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
        };
        progress.end(&state);
        Ok(ending)
    }

    fn outstanding(&self, ended: Ended) -> u64 {
        self.marks.iter().map(|mark| mark.fed).sum::<u64>().saturating_sub(ended.rows)
    }

    /// Tells, once, that nothing ends: `last` is when something did, and how many had by then.
    fn wonder(&self, last: Option<(Instant, u64)>, ended: Ended) -> Option<(Instant, u64)> {
        let (at, rows) = last?;
        let outstanding = self.outstanding(ended);
        if ended.rows != rows || outstanding == 0 {
            return Some((Instant::now(), ended.rows));
        }
        if at.elapsed() < SILENCE {
            return last;
        }
        say(&format!("{outstanding} rows are under way, and none has ended for a minute: is a worker running?"));
        None
    }

    fn has_room(&self, chunk: &Chunk, ended: Ended) -> bool {
        let rows = chunk.jobs.len() as u64;
        rows == 0 || self.outstanding(ended) + rows <= self.window && self.pace.as_ref().is_none_or(Pace::is_due)
    }

    async fn feed(&mut self, link: &mut Link, chunk: &Chunk, stop: &CancellationToken) -> anyhow::Result<Fed> {
        for (keys, mark) in self.keys.iter().zip(&mut self.marks) {
            let here: Vec<&Job> = chunk.jobs.iter().filter(|job| job.partition == keys.partition).collect();
            let Some(last) = here.last() else { continue };
            let jobs: Vec<&str> = here.iter().map(|job| job.json.as_str()).collect();
            let (batch, run, between) = (self.batch, self.run.as_str(), (mark.row, last.row));
            let fed = outlast(self.redis, stop, async || backfill::feed(link, keys, batch, run, between, &jobs).await);
            if fed.await? == Fed::NotOurs {
                return Ok(Fed::NotOurs);
            }
            mark.row = last.row;
            mark.fed += jobs.len() as u64;
        }
        if let Some(pace) = &mut self.pace {
            pace.spend(chunk.jobs.len());
        }
        Ok(Fed::Done)
    }

    async fn finish_reading(
        &self,
        link: &mut Link,
        reader: JoinHandle<anyhow::Result<Counts>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Counts> {
        let counts = reader.await??;
        let json = serde_json::to_string(&counts)?;
        let (first, batch) = (&self.keys[0], self.batch);
        outlast(self.redis, stop, async || backfill::read_to_the_end(link, first, batch, &json).await).await?;
        Ok(counts)
    }
}

/// Says that rows were settled as unknown, if any were.
pub(super) fn tell_lost(rows: u64) {
    if rows > 0 {
        say(&format!("{rows} rows have ended, and their completions were trimmed before they were read: unknown"));
    }
}

/// Tries again while Redis is gone, for [`PATIENCE`], or until `stop`. Only for what is safe to repeat.
async fn outlast<T>(
    redis: &RedisConfig,
    stop: &CancellationToken,
    mut attempt: impl AsyncFnMut() -> RedisResult<T>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(100);
    let mut told = false;
    loop {
        match attempt().await {
            Ok(done) => {
                if told {
                    say("Redis is back");
                }
                return Ok(done);
            }
            Err(error) if is_transient(&error) && begun.elapsed() < PATIENCE && !stop.is_cancelled() => {
                if !std::mem::replace(&mut told, true) {
                    say(&format!("Redis cannot be used: {}; waiting for it", redis_access::describe(&error)));
                }
                // A signal ends the wait; the attempt after it is the last.
                let _ = timeout(pause, stop.cancelled()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(redis_access::unreachable(redis, &error)),
        }
    }
}
