//! Admission: takes decoded jobs, gets worker slots, admits them in Redis and passes them to the apalis worker.

mod aside;

use super::{
    active_job::{ActiveJob, DelayedBy, Delivery, End, InsteadOfCall},
    context::WorkerContext,
    decode::{DecodedJobs, Decoder},
    delayed_by_route,
    redis_health::LoopHealth,
    replication::await_replica,
    rule_check::{RuleCheck, check},
    upstream_health::Probe,
};
use crate::{
    config::Durability,
    contract::Lane,
    jobs::{NextStep, RepeatSafety, Waiting},
    limits::{Permit, SharedBucket, Turn},
    queue::{self, Admission, AdmissionBatch, AdmissionRequest, BucketPlace, IdIndex, Link, MAX_ADMIT, MarkerRemoval},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Admission for one reader.
#[derive(Debug)]
pub(super) struct Admitter {
    context: Arc<WorkerContext>,
    partition: usize,
    decoder: Decoder,
    link: Link,
    loop_health: LoopHealth,
    out: mpsc::Sender<Vec<Delivery>>,
    orders: watch::Receiver<u64>,
    stop: CancellationToken,
}

static MARKS: AtomicU64 = AtomicU64::new(0);

impl Admitter {
    pub(super) fn new(
        context: Arc<WorkerContext>,
        kind: &'static str,
        partition: usize,
        out: mpsc::Sender<Vec<Delivery>>,
        stop: CancellationToken,
    ) -> Self {
        let link = context.link(kind, partition);
        let loop_health = context.health.loop_health();
        let decoder = Decoder::new(Arc::clone(&context), partition);
        let orders = context.control.changes();
        Self { context, partition, decoder, link, loop_health, out, orders, stop }
    }

    /// The decoder for this admission's entries.
    pub(super) fn decoder(&self) -> Decoder {
        self.decoder.clone()
    }

    /// Returns when every job is admitted, delayed or completed, which is the back pressure on reading. The returned
    /// duration is the time spent waiting for slots.
    pub(super) async fn let_in(&mut self, DecodedJobs(mut ready): DecodedJobs) -> Duration {
        let mut waited = Duration::ZERO;
        loop {
            if self.context.control.any() || ready.iter().any(|active| active.state.cancelled || active.is_given_up()) {
                ready = self.screen(ready).await;
            }
            ready = self.step_aside(ready).await;
            if ready.is_empty() {
                return waited;
            }
            let now_ms = self.context.clock.monotonic_ms();
            if self.context.upstream_health.is_trying(now_ms)
                && let Some(harmless) = ready.iter().position(|active| active.repeat_safety == RepeatSafety::Safe)
            {
                // One call must find out whether XCO has recovered. Choose one that does no harm if it has not.
                ready[..=harmless].rotate_right(1);
            }
            // A script call handles one stream. Returning jobs are before new ones.
            let (lane, source) = (ready[0].lane, ready[0].source);
            let alike = ready.iter().take_while(|active| (active.lane, active.source) == (lane, source)).count();
            let waiting_since = Instant::now();
            let taken = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    DecodedJobs(ready).release();
                    return waited;
                }
                // The rules changed, and some of these jobs may no longer be allowed to call.
                _ = self.orders.changed() => continue,
                taken = slots(&self.context, lane, alike.min(MAX_ADMIT)) => taken,
            };
            waited += waiting_since.elapsed();
            let batch = self.permitted(&mut ready, taken);
            if !batch.is_empty() {
                self.admit(batch, Asks::ToCall).await;
            }
        }
    }

    /// Takes the next jobs, up to `taken` slots, that may call now. If a route has failed meanwhile, its jobs stay in
    /// `ready` and their slots are released.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    fn permitted(&self, ready: &mut Vec<Box<ActiveJob>>, taken: usize) -> Vec<Box<ActiveJob>> {
        let context = &self.context;
        let now_ms = context.clock.monotonic_ms();
        let lane = ready[0].lane;
        let (mut batch, mut stay) = (Vec::with_capacity(taken), Vec::new());
        for mut active in ready.drain(..taken) {
            match context.upstream_health.ask(active.route, active.lane, now_ms) {
                Permit::Go => {}
                Permit::Probe => active.probe = Some(Probe::new(Arc::clone(&context.upstream_health), active.route)),
                Permit::Wait => {
                    stay.push(active);
                    continue;
                }
            }
            active.has_slot = true;
            batch.push(active);
        }
        if !stay.is_empty() {
            context.slots.release(lane, stay.len());
            ready.splice(..0, stay);
        }
        batch
    }

    /// Delays the jobs whose route has a breaker that is not closed, except one that can probe the route. Returns the
    /// others.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn step_aside(&mut self, ready: Vec<Box<ActiveJob>>) -> Vec<Box<ActiveJob>> {
        if !self.context.upstream_health.is_troubled() {
            return ready;
        }
        let (now_ms, monotonic_ms) = (self.context.clock.now_ms(), self.context.clock.monotonic_ms());
        let mut going = Vec::with_capacity(ready.len());
        let mut aside = Vec::new();
        let mut probes = Vec::new();
        for mut active in ready {
            match self.context.upstream_health.look(active.route, active.lane, monotonic_ms) {
                Permit::Probe if !probes.contains(&active.route) => probes.push(active.route),
                Permit::Go => {}
                Permit::Probe | Permit::Wait => {
                    active.instead = Some(step_aside(&active, now_ms));
                    aside.push(active);
                    continue;
                }
            }
            going.push(active);
        }
        self.admit_instead(aside).await;
        going
    }

    /// Applies the operators' rules. Returns the jobs that no rule affects.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn screen(&mut self, ready: Vec<Box<ActiveJob>>) -> Vec<Box<ActiveJob>> {
        let rules = self.context.control.rules();
        let now_ms = self.context.clock.now_ms();
        let mut going = Vec::with_capacity(ready.len());
        let mut instead = Vec::new();
        for mut active in ready {
            match check(&rules, &active, now_ms) {
                RuleCheck::Go => going.push(active),
                RuleCheck::Stay if active.taken_over => active.leave(),
                RuleCheck::Stay => active.end(End::Called(NextStep::Release)),
                RuleCheck::Instead(what) => {
                    active.instead = Some(what);
                    instead.push(active);
                }
            }
        }
        self.admit_instead(instead).await;
        going
    }

    /// Admits jobs that must not make their call.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn admit_instead(&mut self, mut instead: Vec<Box<ActiveJob>>) {
        while !instead.is_empty() {
            let (lane, source) = (instead[0].lane, instead[0].source);
            let alike = instead.iter().take_while(|active| (active.lane, active.source) == (lane, source)).count();
            let batch = instead.drain(..alike.min(MAX_ADMIT)).collect();
            self.admit(batch, Asks::ToCall).await;
        }
    }

    /// Admits a batch that has its slots, or needs none, in one round trip.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn admit(&mut self, mut batch: Vec<Box<ActiveJob>>, asks: Asks) {
        let requests: Vec<AdmissionRequest> = batch.iter_mut().map(|active| self.request(active, asks)).collect();
        let keys = &self.context.partitions[self.partition].keys;
        let index = IdIndex::of(&self.context.queue);
        let stream = keys.stream(batch[0].lane, batch[0].source);
        let place = if self.context.all_look_at_recent.load(Ordering::Acquire) {
            BucketPlace::Recent
        } else {
            BucketPlace::OwnKey
        };
        let consumer = &self.context.consumer;
        let must_outlive_master =
            self.context.durability == Durability::Replicated && requests.iter().any(|request| request.mark.is_some());
        let mut asking = 0;
        let answers = loop {
            asking += 1;
            let asked = AdmissionBatch { stream, consumer, asking, place, requests: &requests };
            match queue::admit(&mut self.link, keys, index, asked).await {
                Ok(answers) => {
                    // Set before any wait, because later it would be out of date.
                    self.context.clock.set(answers.now_ms);
                    if !must_outlive_master {
                        break answers;
                    }
                    tokio::select! {
                        // A call marker lost in a failover would allow a call to be repeated that must not be.
                        kept = await_replica(&self.context, &mut self.link, &mut self.loop_health) => if kept { break answers },
                        () = self.stop.cancelled() => return hand_back(batch, requests),
                    }
                }
                Err(error) => {
                    self.context.metrics.redis_error("admit");
                    self.context.whole_script_failed("admit", &error);
                    tokio::select! {
                        () = tokio::time::sleep(self.loop_health.failed("admit", &error)) => {}
                        () = self.stop.cancelled() => return hand_back(batch, requests),
                    }
                }
            }
        };
        self.loop_health.ok();
        let mut admitted = Vec::with_capacity(batch.len());
        for ((mut active, request), verdict) in batch.into_iter().zip(requests).zip(answers.verdicts) {
            active.state.accepted |= verdict != Admission::Duplicate;
            match verdict {
                Admission::Admitted => {
                    if active.repeat_safety != RepeatSafety::Safe {
                        active.unmark = request.mark.map_or(MarkerRemoval::Any, MarkerRemoval::Called);
                    }
                    active.state.resume(answers.now_ms);
                    active.state.started_at_ms.get_or_insert(answers.now_ms);
                    if active.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.context.clock.now_ms()) {
                        // It was admitted in time, but the wait for a replica took longer than its deadline.
                        active.end(End::Expired { limited: false });
                    } else {
                        admitted.push(Delivery::new(active));
                    }
                }
                Admission::Duplicate => active.end(End::Duplicate),
                Admission::Expired => {
                    let end = active.instead.take().into();
                    active.end(end);
                }
                Admission::TooLate => active.end(End::Expired { limited: true }),
                Admission::Limited { due_us, turn } => {
                    let now_us = answers.now_ms.saturating_mul(1000);
                    self.context.partitions[self.partition].backlogged_callers.note(&active.bucket, due_us, now_us);
                    active.state.reserve(turn);
                    active.end(End::Delayed(Waiting::Limit, due_us));
                }
                Admission::Early { due_us, turn } => {
                    active.state.reserve(turn);
                    active.end(End::Delayed(Waiting::Limit, due_us));
                }
                Admission::LimitedByTotal { due_us, turn } | Admission::EarlyForTotal { due_us, turn } => {
                    active.state.reserve_total(turn);
                    active.end(End::Delayed(Waiting::Limit, due_us));
                }
                Admission::Queued => {
                    active.state.spend_slots();
                    active.end(End::Queued(SharedBucket::Client));
                }
                Admission::QueuedByTotal => {
                    if active.bucket.shared.is_some() {
                        active.state.spend_slots();
                    } else if !active.state.reserved {
                        active.state.reserve(Turn::NONE);
                    }
                    active.end(End::Queued(SharedBucket::Total));
                }
                Admission::Scheduled { due_us } => active.end(End::Delayed(Waiting::Schedule, due_us)),
                Admission::Begun => begun(active),
                Admission::NotOurs => active.leave(),
            }
        }
        if !admitted.is_empty() {
            // A closed channel means that the worker is stopping. Dropped deliveries hand themselves back.
            let _ = self.out.send(admitted).await;
        }
    }

    fn request(&self, active: &mut ActiveJob, asks: Asks) -> AdmissionRequest {
        let fresh = !active.state.accepted;
        let state = &active.state;
        let turn = state.reserved.then_some(state.turn);
        let total_turn = state.reserved_total.then_some(state.total_turn);
        let limits = self.context.limits.now();
        let total = limits.total();
        // The job may have waited for its slot while the limits changed.
        active.bucket = limits.renewed(active.route, std::mem::take(&mut active.bucket));
        AdmissionRequest {
            entry: active.entry,
            token: active.state.origin.to_string(),
            // A batch counts a job once, however often it is admitted. A job without an id reserves its origin for
            // that.
            reserve_id: match &active.job.id {
                Some(id) => Some(id.as_str().to_owned()),
                None => active.job.batch.as_ref().map(|_| active.state.origin.to_string()),
            }
            .filter(|_| fresh),
            count_in_batch: active.job.batch.clone().filter(|_| fresh),
            bucket: (active.bucket.clone(), turn),
            bulk_age: active.bulk_age().filter(|_| active.bucket.shared.is_some() || total.is_some()),
            total: total.map(|total| (total, total_turn)),
            deadline_ms: if active.instead.is_some() { Some(0) } else { active.deadline_ms },
            run_at_ms: active.job.run_at_ms,
            mark: (active.repeat_safety != RepeatSafety::Safe)
                .then(|| format!("{}:{}", self.context.consumer, MARKS.fetch_add(1, Ordering::Relaxed))),
            aside: asks == Asks::ToWait,
        }
    }
}

/// Why jobs ask for admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// To call: they have slots, or must not call.
    ToCall,
    /// To wait for a reservation: they have no slots.
    ToWait,
}

/// Releases jobs whose admission is unknown. No call was made, so each release removes the call marker of its own
/// request and no other.
#[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
fn hand_back(batch: Vec<Box<ActiveJob>>, requests: Vec<AdmissionRequest>) {
    for (mut active, request) in batch.into_iter().zip(requests) {
        active.unmark = request.mark.map_or(MarkerRemoval::Nothing, MarkerRemoval::Own);
        active.end(End::Called(NextStep::Release));
    }
}

/// What happens to a job whose route has a breaker that is not closed.
fn step_aside(active: &ActiveJob, now_ms: u64) -> InsteadOfCall {
    if active.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
        return InsteadOfCall::Expire;
    }
    let due_ms = now_ms.saturating_add(delayed_by_route::LONGEST_MS).min(active.deadline_ms.unwrap_or(u64::MAX));
    InsteadOfCall::Delay { by: DelayedBy::Breaker(active.route), due_ms }
}

/// Takes up to `want` slots. Takes a few at a time if they come free one by one.
async fn slots(context: &WorkerContext, lane: Lane, want: usize) -> usize {
    let slots = &context.slots;
    let _demand = slots.demand(lane);
    slots.available(lane, want.min((slots.total() / 16).max(1))).await;
    slots.acquire(lane, want).await
}

/// Handles a job of which another delivery has started an unsafe call and not ended it.
fn begun(mut active: Box<ActiveJob>) {
    if !active.taken_over {
        // A first delivery: the group was lost and recreated while another worker may still be alive and calling. The
        // entry stays pending, and is taken over after a lease if that worker does not end it.
        active.leave();
        return;
    }
    active.unmark = MarkerRemoval::Any;
    match active.lost() {
        None => active.end(End::Called(NextStep::Continue)),
        Some(error) => active.end(End::DeadLetter(error)),
    }
}
