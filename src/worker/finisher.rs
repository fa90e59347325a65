//! Writing the ends of deliveries to Redis: in batches, each atomic, repeated until Redis has them.

use super::{
    completion::{self, Final},
    delivery::{End, Ending, Held},
    health::Pulse,
    lease::LeaseKey,
    replication::await_replica,
    settlement::{Note, Pause, Ready},
    shared::Shared,
    stream_place,
};
use crate::{
    config::Durability,
    contract::{ErrorKind, Lane, Status},
    jobs::{Verdict, Waiting},
    limits::{SharedBucket, SlotKind},
    queue::{
        self, Deferral, Deferred, Finish, FinishOp, Finished, Finishes, Link, MAX_FINISH, Place, ScriptFailure, Source,
        Unmark,
        control::{self, Hold, MAX_HOLD},
        is_transient,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, mpsc};

/// Fewer ends than this wait for more while the worker is busy,
const FEW: usize = 32;

/// for so long (a timer's tick more at most).
const GATHER: Duration = Duration::from_millis(1);

/// A job without a deadline that waits in a queue is looked at this often at least, should the queue have lost it.
const LONGEST_QUEUE_MS: u64 = 86_400_000;

/// One of a partition's finishers. Several share the same queue: while one waits for Redis, another prepares a batch.
#[derive(Debug)]
pub(super) struct Finisher {
    shared: Arc<Shared>,
    partition: usize,
    link: Link,
    pulse: Pulse,
}

impl Finisher {
    pub(super) fn new(shared: Arc<Shared>, partition: usize) -> Self {
        let link = shared.connector.link(false);
        let pulse = shared.health.pulse();
        Self { shared, partition, link, pulse }
    }

    /// Runs until every sender is gone and everything is written.
    pub(super) async fn run(mut self, endings: Arc<Mutex<mpsc::UnboundedReceiver<Ending>>>) {
        let mut batch = Vec::with_capacity(MAX_FINISH);
        loop {
            batch.clear();
            let mut endings = endings.lock().await;
            if endings.recv_many(&mut batch, MAX_FINISH).await == 0 {
                return;
            }
            if batch.len() < FEW && self.shared.slots.is_busy() {
                self.gather(&mut endings, &mut batch).await;
            }
            drop(endings);
            self.write(&mut batch).await;
        }
    }

    /// Waits a little for more: a script run for many costs Redis little more than one for a few. What waits here holds no
    /// slot.
    async fn gather(&self, endings: &mut mpsc::UnboundedReceiver<Ending>, batch: &mut Vec<Ending>) {
        tokio::time::sleep(GATHER).await;
        while batch.len() < MAX_FINISH
            && let Ok(ending) = endings.try_recv()
        {
            batch.push(ending);
        }
    }

    async fn write(&mut self, batch: &mut Vec<Ending>) {
        let mut streams: [Vec<Ready>; 4] = Default::default();
        let mut paused = Vec::new();
        for ending in batch.drain(..) {
            let ready = match ending {
                Ending::Rejected(rejected) => Some(self.rejected(&rejected)),
                Ending::Job { held, end: End::Called(Verdict::Defer { retry_after }) } => {
                    self.defer(held, retry_after).await
                }
                Ending::Job { held, end: End::Paused { rule, due_ms } } if !held.is_cancelled() => {
                    paused.push((held, rule, due_ms));
                    None
                }
                Ending::Job { mut held, end } => Some(self.prepare(&mut held, end)),
                Ending::Again(again) => {
                    for ready in again {
                        streams[stream_place(ready.key.0, ready.key.1)].push(ready);
                    }
                    None
                }
                Ending::HoldAgain(pause) => {
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

    fn rejected(&self, rejected: &super::delivery::Rejected) -> Ready {
        let now_ms = self.shared.clock.now_ms();
        let waited_ms = now_ms.saturating_sub(rejected.state.origin.entry.ms);
        Ready {
            key: (rejected.lane, rejected.source, rejected.entry),
            finish: Finish {
                entry: rejected.entry,
                origin: rejected.state.origin.to_string(),
                unmark: Unmark::Nothing,
                op: completion::of_rejected(rejected, now_ms),
            },
            note: Note::Completed {
                job_type: rejected.rejection.job_type,
                status: Status::Rejected,
                queued_ms: waited_ms,
                total_ms: waited_ms,
                dead: true,
            },
        }
    }

    fn prepare(&self, held: &mut Held, end: End) -> Ready {
        let now_ms = self.shared.clock.now_ms();
        let job_type = held.job.job_type;
        let waits =
            matches!(end, End::Called(Verdict::Retry { .. } | Verdict::Continue) | End::Aside(..) | End::Queued(_));
        // It would only be taken up again to be cancelled.
        let end = if waits && held.is_cancelled() { End::Cancelled } else { end };
        let (op, note) = match end {
            End::Called(Verdict::Succeeded { outcome, result }) => {
                Self::complete(held, &Final::Succeeded { outcome, result: result.as_ref() }, now_ms)
            }
            End::Called(Verdict::Failed { error, dead_letter }) => {
                Self::complete(held, &Final::Failed { error: &error, dead_letter }, now_ms)
            }
            End::Dead(error) => Self::complete(held, &Final::Failed { error: &error, dead_letter: true }, now_ms),
            End::Called(Verdict::Retry { error, delay_ms }) => {
                let due_ms = now_ms.saturating_add(delay_ms);
                if held.deadline_ms.is_some_and(|deadline_ms| due_ms >= deadline_ms) {
                    let mut late = completion::expired(held, false);
                    late.message = format!("{}; the last attempt: {}", late.message, error.message);
                    late.http_status = error.http_status;
                    Self::cut_short(held, &Final::Expired { error: &late }, now_ms)
                } else {
                    held.state.wait(Waiting::Retry, now_ms);
                    (park(held, due_ms.saturating_mul(1000)), Note::Retry(job_type))
                }
            }
            End::Called(Verdict::Continue) => {
                held.state.wait(Waiting::Slot, now_ms);
                (requeue(held), Note::Nothing)
            }
            // A deferral goes another way; handed back it would run again.
            End::Called(Verdict::Release | Verdict::Defer { .. }) => {
                if held.state.waiting.is_none() {
                    held.state.wait(Waiting::Slot, now_ms);
                }
                (requeue(held), Note::Nothing)
            }
            End::Aside(why, due_us) => {
                held.state.resume(now_ms);
                held.state.wait(why, now_ms);
                let note = if why == Waiting::Limit { Note::Limited(job_type) } else { Note::Nothing };
                (park(held, due_us), note)
            }
            End::Queued(bucket) => {
                held.state.resume(now_ms);
                held.state.wait(Waiting::Limit, now_ms);
                (queue_up(held, bucket, now_ms), Note::Limited(job_type))
            }
            End::Expired { limited } => {
                let error = completion::expired(held, limited);
                Self::cut_short(held, &Final::Expired { error: &error }, now_ms)
            }
            // A pause is written elsewhere, unless the job is cancelled by now.
            End::Cancelled | End::Paused { .. } => {
                let error = completion::cancelled(held);
                Self::cut_short(held, &Final::Cancelled { error: &error }, now_ms)
            }
            End::Duplicate => (FinishOp::Drop, Note::Duplicate),
        };
        Ready {
            key: (held.lane, held.source, held.entry),
            finish: Finish {
                entry: held.entry,
                origin: held.state.origin.to_string(),
                unmark: std::mem::take(&mut held.unmark),
                op,
            },
            note,
        }
    }

    /// A deadline that passed or an operator's order ends a job, unless an earlier call may have taken effect.
    fn cut_short(held: &mut Held, end: &Final<'_>, now_ms: u64) -> (FinishOp, Note) {
        match end {
            Final::Expired { error } | Final::Cancelled { error } if error.kind == ErrorKind::InDoubt => {
                Self::complete(held, &Final::Failed { error, dead_letter: true }, now_ms)
            }
            end => Self::complete(held, end, now_ms),
        }
    }

    fn complete(held: &mut Held, end: &Final<'_>, now_ms: u64) -> (FinishOp, Note) {
        let op = completion::of_job(held, end, now_ms);
        let (status, dead) = match end {
            Final::Succeeded { .. } => (Status::Succeeded, false),
            Final::Failed { dead_letter, .. } => (Status::Failed, *dead_letter),
            Final::Expired { .. } => (Status::Expired, false),
            Final::Cancelled { .. } => (Status::Cancelled, false),
        };
        let total_ms = now_ms.saturating_sub(held.state.enqueued_at_ms());
        let queued_ms = completion::timings(held, total_ms).queued;
        if let Final::Failed { error, .. } = end {
            tracing::info!(id = held.id, kind = error.kind.as_str(), status = error.http_status, "job failed");
        }
        (op, Note::Completed { job_type: Some(held.job.job_type), status, queued_ms, total_ms, dead })
    }

    /// A 429: closes the bucket and parks the job in one step. Returns an end where its deadline comes first.
    async fn defer(&mut self, mut held: Box<Held>, retry_after: Option<Duration>) -> Option<Ready> {
        let shared = Arc::clone(&self.shared);
        let keys = &shared.partitions[self.partition].keys;
        shared.metrics.rate_limited(held.job.job_type);
        held.state.wait(Waiting::Limit, shared.clock.now_ms());
        let place = held
            .bulk_age()
            .zip(held.bucket.shared)
            .map(|(age, bucket)| (Place { bucket, age }, latest_ms(&held, shared.clock.now_ms())));
        if place.is_none() {
            held.state.reserve(SlotKind::After429);
        }
        let cancelled = held.is_cancelled();
        let deferral = Deferral {
            entry: held.entry,
            origin: held.state.origin.to_string(),
            bucket: held.bucket.clone(),
            retry_after,
            learn: shared.limits.learns(),
            // Cancelled, it is not to wait: the bucket is closed and the job is ours to end.
            deadline_ms: if cancelled { Some(1) } else { held.deadline_ms },
            state: held.state.to_json(),
            place,
            job: std::mem::take(&mut held.raw),
        };
        let deferred = loop {
            match queue::defer(&mut self.link, keys, held.lane, held.source, &shared.consumer, &deferral).await {
                Ok(deferred) => break deferred,
                Err(error) => self.failed("defer", &error).await,
            }
        };
        self.pulse.well();
        held.free_slot();
        if let Deferred::Failed(why) = &deferred {
            held.raw = deferral.job;
            let wait = self.refused(&[(held.lane, held.source, held.entry)], why);
            // The bucket is closed for as long as XCO asked: the next try is not to begin that anew.
            let end = End::Called(Verdict::Defer { retry_after: Some(Duration::ZERO) });
            self.try_again(Ending::Job { held, end }, wait);
            return None;
        }
        if deferred == Deferred::TooLate {
            held.raw = deferral.job;
            held.state.reserved = false;
            let end = if cancelled { End::Cancelled } else { End::Expired { limited: true } };
            return Some(self.prepare(&mut held, end));
        }
        self.done(std::iter::once((held.lane, held.source, held.entry)), 1);
        shared.partitions[self.partition].parked.notify_one();
        None
    }

    /// Parks what a rule pauses, with a note of the rule.
    #[allow(clippy::vec_box, reason = "each was handed over so")]
    async fn hold(&mut self, paused: Vec<(Box<Held>, String, u64)>) {
        let shared = Arc::clone(&self.shared);
        let now_ms = shared.clock.now_ms();
        let mut groups: HashMap<(Lane, Source, String), Vec<Hold>> = HashMap::new();
        for (mut held, rule, due_ms) in paused {
            held.state.resume(now_ms);
            held.state.wait(Waiting::Paused, now_ms);
            // The slots that it waited for are long past when it comes back: it asks for others.
            held.state.spend_slots();
            groups.entry((held.lane, held.source, rule)).or_default().push(Hold {
                entry: held.entry,
                origin: held.state.origin.to_string(),
                due_ms,
                state: held.state.to_json(),
                job: std::mem::take(&mut held.raw),
            });
        }
        for ((lane, source, rule), mut holds) in groups {
            while !holds.is_empty() {
                let rest = holds.split_off(holds.len().min(MAX_HOLD));
                self.park_paused(Pause { lane, source, rule: rule.clone(), holds }).await;
                holds = rest;
            }
        }
        shared.partitions[self.partition].parked.notify_one();
    }

    async fn park_paused(&mut self, Pause { lane, source, rule, holds }: Pause) {
        let shared = Arc::clone(&self.shared);
        let keys = &shared.partitions[self.partition].keys;
        let refused = loop {
            let rule = (rule.as_str(), shared.consumer.as_str());
            match control::hold(&mut self.link, keys, (lane, source), rule, &holds).await {
                Ok(refused) => break refused,
                Err(error) if is_transient(&error) => self.failed("hold", &error).await,
                Err(error) => {
                    // Nothing was done: a command that every pause needs is refused. Other ends are not to wait for it.
                    shared.metrics.redis_error("hold");
                    let why = ScriptFailure::of_whole("hold", &error);
                    break (0..holds.len()).map(|place| (place, why.clone())).collect();
                }
            }
        };
        self.pulse.well();
        let why = refused.first().map(|(_, why)| why.clone());
        let places: BTreeSet<usize> = refused.into_iter().map(|(place, _)| place).collect();
        let (mut again, mut parked) = (Vec::new(), Vec::new());
        for (place, hold) in holds.into_iter().enumerate() {
            if places.contains(&place) {
                again.push(hold);
            } else {
                parked.push((lane, source, hold.entry));
            }
        }
        let count = parked.len();
        self.done(parked.into_iter(), count);
        if let Some(why) = why {
            let keys: Vec<LeaseKey> = again.iter().map(|hold| (lane, source, hold.entry)).collect();
            let wait = self.refused(&keys, &why);
            self.try_again(Ending::HoldAgain(Pause { lane, source, rule, holds: again }), wait);
        }
    }

    async fn commit(&mut self, stream: Vec<Ready>) {
        let leases = &self.shared.partitions[self.partition].leases;
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

    async fn commit_batch(&mut self, batch: Vec<Ready>) {
        let (lane, source, _) = batch[0].key;
        let mut finishes = Vec::with_capacity(batch.len());
        let mut notes = Vec::with_capacity(batch.len());
        for ready in batch {
            finishes.push(ready.finish);
            notes.push((ready.key, ready.note));
        }
        let shared = Arc::clone(&self.shared);
        let keys = &shared.partitions[self.partition].keys;
        let mut written = vec![false; finishes.len()];
        let each = loop {
            let whose = (shared.consumer.as_str(), shared.queue.reply_ttl);
            match queue::finish(&mut self.link, keys, lane, source, whose, &finishes).await {
                Ok(Finishes { each, courtesies }) => {
                    for failure in &courtesies {
                        self.tell_courtesy(failure);
                    }
                    let ended = each.iter().map(|finished| *finished == Finished::Ended);
                    written.iter_mut().zip(ended).for_each(|(written, now)| *written |= now);
                    let single = shared.durability == Durability::Single;
                    if single || await_replica(&shared, &mut self.link, &mut self.pulse).await {
                        break each;
                    }
                    // Cut off in between: what now is the master may never have heard of it. If it has, nothing happens.
                }
                Err(error) if is_transient(&error) => self.failed("finish", &error).await,
                Err(error) => {
                    // Nothing was done: a command that every end needs is refused.
                    self.shared.metrics.redis_error("finish");
                    let why = ScriptFailure::of_whole("finish", &error);
                    break vec![Finished::Failed(why); finishes.len()];
                }
            }
        };
        self.pulse.well();
        let parks = finishes.iter().any(|finish| matches!(finish.op, FinishOp::Park { .. }));
        let (mut done, mut again, mut why) = (Vec::with_capacity(each.len()), Vec::new(), None);
        for (((finished, finish), (key, note)), written) in each.into_iter().zip(finishes).zip(notes).zip(written) {
            if let Finished::Failed(failure) = finished {
                why.get_or_insert(failure);
                again.push(Ready { key, finish, note });
                continue;
            }
            if written {
                self.count(&note);
            }
            done.push(key);
        }
        let count = done.len();
        self.done(done.into_iter(), count);
        if let Some(why) = why {
            let keys: Vec<LeaseKey> = again.iter().map(|ready| ready.key).collect();
            let wait = self.refused(&keys, &why);
            self.try_again(Ending::Again(again), wait);
        }
        if parks {
            shared.partitions[self.partition].parked.notify_one();
        }
    }

    /// A reply, a counter or an expiry was not written: told, and nothing waits for it.
    fn tell_courtesy(&self, failure: &ScriptFailure) {
        self.shared.script_failed(failure);
        tracing::warn!(script = failure.script, detail = failure.detail, "Redis refused a reply or a counter");
    }

    /// The ends of these deliveries were refused: not ready until they are written. When to try again.
    fn refused(&self, keys: &[LeaseKey], why: &ScriptFailure) -> Duration {
        self.shared.script_failed(why);
        let stuck = &self.shared.partitions[self.partition].stuck;
        keys.iter().map(|key| stuck.refused(*key, why)).max().unwrap_or_default()
    }

    /// Hands an end back to the finishers after `wait`; others go on meanwhile.
    fn try_again(&self, ending: Ending, wait: Duration) {
        let endings = self.shared.partitions[self.partition].endings.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = endings.send(ending);
        });
    }

    async fn failed(&mut self, what: &'static str, error: &redis::RedisError) {
        self.shared.metrics.redis_error(what);
        let wait = self.pulse.ill(what, error);
        tokio::time::sleep(wait).await;
    }

    fn done(&self, keys: impl Iterator<Item = LeaseKey> + Clone, count: usize) {
        let partition = &self.shared.partitions[self.partition];
        partition.stuck.written(keys.clone());
        partition.leases.end(keys);
        self.shared.slots.written(count);
    }

    fn count(&self, note: &Note) {
        let metrics = &self.shared.metrics;
        match note {
            Note::Completed { job_type, status, queued_ms, total_ms, dead } => {
                let (queued, total) = (Duration::from_millis(*queued_ms), Duration::from_millis(*total_ms));
                metrics.completion(*job_type, *status, queued, total);
                if *dead {
                    metrics.dead_letter(*job_type);
                }
            }
            Note::Retry(job_type) => metrics.retry(*job_type),
            Note::Limited(job_type) => metrics.limited(*job_type),
            Note::Duplicate => metrics.duplicate(),
            Note::Nothing => {}
        }
    }
}

fn park(held: &mut Held, due_us: u64) -> FinishOp {
    FinishOp::Park { due_us, place: None, state: held.state.to_json(), job: std::mem::take(&mut held.raw) }
}

fn queue_up(held: &mut Held, bucket: SharedBucket, now_ms: u64) -> FinishOp {
    let due_us = latest_ms(held, now_ms).saturating_mul(1000);
    let place = held.bulk_age().map(|age| Place { bucket, age });
    FinishOp::Park { due_us, place, state: held.state.to_json(), job: std::mem::take(&mut held.raw) }
}

/// When a job that waits in a queue is looked at in any case: at its deadline, so that it ends in time.
fn latest_ms(held: &Held, now_ms: u64) -> u64 {
    held.deadline_ms.unwrap_or_else(|| now_ms.saturating_add(LONGEST_QUEUE_MS))
}

fn requeue(held: &mut Held) -> FinishOp {
    FinishOp::Requeue { state: held.state.to_json(), job: std::mem::take(&mut held.raw) }
}
