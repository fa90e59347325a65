//! Writes the ends of deliveries to Redis, in atomic batches, and repeats each until Redis has it.

mod delay;

use super::{
    active_job::{CompleterTask, End},
    context::WorkerContext,
    ended_delivery::{EndMetric, ReadyEnd},
    lease::{LeaseKey, stream_place},
    maintenance::LONGEST_SLEEP,
    redis_health::LoopHealth,
    replication::await_replica,
    settlement,
};
use crate::{
    config::Durability,
    contract::{Lane, millis},
    jobs::NextStep,
    queue::{self, FinishOp, Finished, Finishes, IdIndex, Link, MAX_FINISH, ScriptFailure, is_transient},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, mpsc};

/// A batch smaller than this waits for [`GATHER`] while the worker is busy.
const FEW: usize = 32;

/// How long a small batch waits for more (a timer's tick longer at most).
const GATHER: Duration = Duration::from_millis(1);

/// The scheduler is told of a job only if it is due within this time, because it looks before then anyway. A look for each
/// batch of a backlogged caller's jobs would delay the others.
const SOON: Duration = LONGEST_SLEEP.saturating_mul(2);

/// One of a partition's finishers. They share a queue: while one waits for Redis, another prepares a batch.
#[derive(Debug)]
pub(super) struct Completer {
    context: Arc<WorkerContext>,
    partition: usize,
    link: Link,
    loop_health: LoopHealth,
}

impl Completer {
    pub(super) fn new(context: Arc<WorkerContext>, partition: usize, kind: &'static str) -> Self {
        let link = context.link(kind, partition);
        let loop_health = context.health.loop_health();
        Self { context, partition, link, loop_health }
    }

    /// Runs until every sender is dropped and everything is written.
    pub(super) async fn run(mut self, endings: Arc<Mutex<mpsc::UnboundedReceiver<CompleterTask>>>) {
        let mut batch = Vec::with_capacity(MAX_FINISH);
        loop {
            batch.clear();
            let mut endings = endings.lock().await;
            if endings.recv_many(&mut batch, MAX_FINISH).await == 0 {
                return;
            }
            if batch.len() < FEW && self.context.slots.is_busy() {
                self.gather(&mut endings, &mut batch).await;
            }
            drop(endings);
            self.write(&mut batch).await;
        }
    }

    /// Waits briefly for more ends: a script call for many costs Redis little more than one for a few. Jobs that wait
    /// here hold no slot.
    async fn gather(&self, endings: &mut mpsc::UnboundedReceiver<CompleterTask>, batch: &mut Vec<CompleterTask>) {
        tokio::time::sleep(GATHER).await;
        while batch.len() < MAX_FINISH
            && let Ok(ending) = endings.try_recv()
        {
            batch.push(ending);
        }
    }

    async fn write(&mut self, batch: &mut Vec<CompleterTask>) {
        let mut streams: [Vec<ReadyEnd>; 4] = Default::default();
        let mut paused = Vec::new();
        for ending in batch.drain(..) {
            let ready = match ending {
                CompleterTask::Rejected(rejected) => {
                    Some(settlement::of_rejected(&rejected, self.context.clock.now_ms()))
                }
                CompleterTask::Job { active, end: End::Called(NextStep::Defer { retry_after }) } => {
                    self.defer(active, retry_after).await
                }
                CompleterTask::DeferAgain { active, deferral } => self.park_deferred(active, *deferral).await,
                CompleterTask::Job { active, end: End::DelayedBy { by, due_ms } } if !active.is_cancelled() => {
                    paused.push((active, by, due_ms));
                    None
                }
                CompleterTask::Job { mut active, end } => {
                    Some(settlement::of_job(&mut active, end, self.context.clock.now_ms()))
                }
                CompleterTask::Again(again) => {
                    for ready in again {
                        streams[stream_place(ready.key.0, ready.key.1)].push(ready);
                    }
                    None
                }
                CompleterTask::HoldAgain(pause) => {
                    self.park_paused(pause).await;
                    None
                }
            };
            if let Some(ready) = ready {
                streams[stream_place(ready.key.0, ready.key.1)].push(ready);
            }
        }
        for stream in streams {
            if !stream.is_empty() {
                self.commit(stream).await;
            }
        }
        if !paused.is_empty() {
            self.hold(paused).await;
        }
    }

    async fn commit(&mut self, stream: Vec<ReadyEnd>) {
        let leases = &self.context.partitions[self.partition].leases;
        let (alone, mut stream): (Vec<_>, Vec<_>) =
            stream.into_iter().partition(|ready| leases.is_doubtful(&ready.key));
        for ready in alone {
            self.commit_batch(vec![ready]).await;
        }
        while !stream.is_empty() {
            let rest = stream.split_off(stream.len().min(MAX_FINISH));
            self.commit_batch(stream).await;
            stream = rest;
        }
    }

    async fn commit_batch(&mut self, batch: Vec<ReadyEnd>) {
        let (lane, source, _) = batch[0].key;
        let mut finishes = Vec::with_capacity(batch.len());
        let mut notes = Vec::with_capacity(batch.len());
        for ready in batch {
            finishes.push(ready.finish);
            notes.push((ready.key, ready.note));
        }
        let context = Arc::clone(&self.context);
        let keys = &context.partitions[self.partition].keys;
        let mut written = vec![false; finishes.len()];
        let each = loop {
            let whose = (context.consumer.as_str(), context.queue.reply_ttl, IdIndex::of(&context.queue));
            match queue::finish(&mut self.link, keys, lane, source, whose, &finishes).await {
                Ok(Finishes { each, courtesies }) => {
                    for failure in &courtesies {
                        self.tell_courtesy(failure);
                    }
                    let ended = each.iter().map(|finished| *finished == Finished::Ended);
                    written.iter_mut().zip(ended).for_each(|(written, now)| *written |= now);
                    let single = context.durability == Durability::Single;
                    if single || await_replica(&context, &mut self.link, &mut self.loop_health).await {
                        break each;
                    }
                    // The connection broke in between: the present master may not have the write. Repeating it is
                    // harmless if it has.
                }
                Err(error) if is_transient(&error) => self.failed("finish", &error).await,
                Err(error) => {
                    // Nothing was written: Redis refuses a command that every end needs.
                    self.context.metrics.redis_error("finish");
                    let why = ScriptFailure::of_whole("finish", &error);
                    break vec![Finished::Failed(why); finishes.len()];
                }
            }
        };
        self.loop_health.ok();
        context.partitions[self.partition].completions_written.count(&finishes);
        let soon_us = context.clock.now_ms().saturating_add(millis(SOON)).saturating_mul(1000);
        let wakes = finishes.iter().any(|finish| is_due_by(&finish.op, soon_us));
        let (mut done, mut again, mut why) = (Vec::with_capacity(each.len()), Vec::new(), None);
        for (((finished, finish), (key, note)), written) in each.into_iter().zip(finishes).zip(notes).zip(written) {
            if let Finished::Failed(failure) = finished {
                why.get_or_insert(failure);
                again.push(ReadyEnd { key, finish, note });
                continue;
            }
            if written {
                self.count(key.0, &note);
            }
            done.push(key);
        }
        let count = done.len();
        self.done(done.into_iter(), count);
        if let Some(why) = why {
            let keys: Vec<LeaseKey> = again.iter().map(|ready| ready.key).collect();
            let wait = self.refused(&keys, &why);
            self.try_again(CompleterTask::Again(again), wait);
        }
        if wakes {
            context.partitions[self.partition].delayed.notify_one();
        }
    }

    /// Reports that a reply, a counter or an expiry was not written. Nothing waits for these.
    fn tell_courtesy(&self, failure: &ScriptFailure) {
        self.context.script_failed(failure);
        tracing::warn!(script = failure.script, detail = failure.detail, "Redis refused a reply or a counter");
    }

    /// Marks the worker as not ready until the ends of these deliveries are written. Returns the wait before the next
    /// try.
    fn refused(&self, keys: &[LeaseKey], why: &ScriptFailure) -> Duration {
        self.context.script_failed(why);
        let stuck = &self.context.partitions[self.partition].stuck;
        keys.iter().map(|key| stuck.refused(*key, why)).max().unwrap_or_default()
    }

    /// Returns an end to the finishers after `wait`. Other ends are written meanwhile.
    fn try_again(&self, ending: CompleterTask, wait: Duration) {
        let endings = self.context.partitions[self.partition].endings.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = endings.send(ending);
        });
    }

    async fn failed(&mut self, what: &'static str, error: &redis::RedisError) {
        self.context.metrics.redis_error(what);
        let wait = self.loop_health.failed(what, error);
        tokio::time::sleep(wait).await;
    }

    fn done(&self, keys: impl Iterator<Item = LeaseKey> + Clone, count: usize) {
        let partition = &self.context.partitions[self.partition];
        partition.stuck.written(keys.clone());
        partition.leases.end(keys);
        self.context.slots.written(count);
    }

    fn count(&self, lane: Lane, note: &EndMetric) {
        let metrics = &self.context.metrics;
        match note {
            EndMetric::Completed { job_type, status, queued_ms, total_ms, xco_ms, dead } => {
                if lane == Lane::Interactive {
                    self.context.latency.people(*total_ms);
                }
                if let Some(xco_ms) = xco_ms {
                    self.context.latency.xco(*xco_ms);
                }
                let (queued, total) = (Duration::from_millis(*queued_ms), Duration::from_millis(*total_ms));
                metrics.completion(*job_type, *status, queued, total);
                if *dead {
                    metrics.dead_letter(*job_type);
                }
            }
            EndMetric::Retry(job_type) => metrics.retry(*job_type),
            EndMetric::Limited(job_type) => metrics.limited(*job_type),
            EndMetric::Duplicate => metrics.duplicate(),
            EndMetric::Nothing => {}
        }
    }
}

/// Whether a job is delayed, and may be due by `soon_us` on Redis's clock. A shared bucket may have room for a job in its
/// queue at any time.
fn is_due_by(op: &FinishOp, soon_us: u64) -> bool {
    matches!(op, FinishOp::Park { due_us, place, .. } if place.is_some() || *due_us <= soon_us)
}
