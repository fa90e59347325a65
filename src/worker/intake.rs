//! From what was sorted to what may be called: slot, admit, hand on.

use super::{
    aside,
    delivery::{Delivery, End, Held, Holder, Instead},
    health::Pulse,
    orders::{Judgement, judge},
    replication::await_replica,
    shared::Shared,
    sorter::{Crowd, Sorted, Sorter},
    weather::Probe,
};
use crate::{
    config::Durability,
    contract::Lane,
    jobs::{Doubt, Verdict, Waiting},
    limits::{Permit, SharedBucket, SlotKind},
    queue::{self, Admission, AdmissionRequest, Held as Slot, HeldSlot, Link, MAX_ADMIT, Unmark},
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

/// One reader's way in.
#[derive(Debug)]
pub(super) struct Intake {
    shared: Arc<Shared>,
    partition: usize,
    sorter: Sorter,
    link: Link,
    pulse: Pulse,
    out: mpsc::Sender<Vec<Delivery>>,
    orders: watch::Receiver<u64>,
    stop: CancellationToken,
}

static MARKS: AtomicU64 = AtomicU64::new(0);

impl Intake {
    pub(super) fn new(
        shared: Arc<Shared>,
        kind: &'static str,
        partition: usize,
        out: mpsc::Sender<Vec<Delivery>>,
        stop: CancellationToken,
    ) -> Self {
        let link = shared.link(kind, partition);
        let pulse = shared.health.pulse();
        let sorter = Sorter::new(Arc::clone(&shared), partition);
        let orders = shared.control.changes();
        Self { shared, partition, sorter, link, pulse, out, orders, stop }
    }

    /// What sorts entries for this way in.
    pub(super) fn sorter(&self) -> Sorter {
        self.sorter.clone()
    }

    /// Returns when every job is admitted, put aside or ended: that is the back pressure on reading. Tells how long they
    /// waited for their slots.
    pub(super) async fn let_in(&mut self, Sorted(mut ready): Sorted) -> Duration {
        let mut waited = Duration::ZERO;
        loop {
            if self.shared.control.any() || ready.iter().any(|held| held.state.cancelled || held.is_given_up()) {
                ready = self.screen(ready).await;
            }
            ready = self.step_aside(ready).await;
            if ready.is_empty() {
                return waited;
            }
            let now_ms = self.shared.clock.monotonic_ms();
            if self.shared.weather.is_trying(now_ms)
                && let Some(harmless) = ready.iter().position(|held| held.doubt == Doubt::Harmless)
            {
                // One call is to find out whether XCO is back: one that does no harm where it is not quite.
                ready[..=harmless].rotate_right(1);
            }
            // One stream at a time: a script is told of one. What comes back stands before what is new.
            let (lane, source) = (ready[0].lane, ready[0].source);
            let alike = ready.iter().take_while(|held| (held.lane, held.source) == (lane, source)).count();
            let waiting_since = Instant::now();
            let taken = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    Sorted(ready).release();
                    return waited;
                }
                // Operators changed something: some of these may not be to call any more.
                _ = self.orders.changed() => continue,
                taken = slots(&self.shared, lane, alike.min(MAX_ADMIT)) => taken,
            };
            waited += waiting_since.elapsed();
            let batch = self.permitted(&mut ready, taken);
            if !batch.is_empty() {
                self.admit(batch, Asks::ToCall).await;
            }
        }
    }

    /// Takes the next jobs, for `taken` slots, that may call now. Where a route has failed in the meantime its jobs stay, and
    /// their slots are given back.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    fn permitted(&self, ready: &mut Vec<Box<Held>>, taken: usize) -> Vec<Box<Held>> {
        let shared = &self.shared;
        let now_ms = shared.clock.monotonic_ms();
        let lane = ready[0].lane;
        let (mut batch, mut stay) = (Vec::with_capacity(taken), Vec::new());
        for mut held in ready.drain(..taken) {
            match shared.weather.ask(held.route, held.lane, now_ms) {
                Permit::Go => {}
                Permit::Probe => held.probe = Some(Probe::new(Arc::clone(&shared.weather), held.route)),
                Permit::Wait => {
                    stay.push(held);
                    continue;
                }
            }
            held.has_slot = true;
            batch.push(held);
        }
        if !stay.is_empty() {
            shared.slots.release(lane, stay.len());
            ready.splice(..0, stay);
        }
        batch
    }

    /// Puts those aside whose route's breaker is not closed, but for one that could find out whether the route is back; the
    /// others are returned.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn step_aside(&mut self, ready: Vec<Box<Held>>) -> Vec<Box<Held>> {
        if !self.shared.weather.is_troubled() {
            return ready;
        }
        let (now_ms, monotonic_ms) = (self.shared.clock.now_ms(), self.shared.clock.monotonic_ms());
        let mut going = Vec::with_capacity(ready.len());
        let mut aside = Vec::new();
        let mut probes = Vec::new();
        for mut held in ready {
            match self.shared.weather.look(held.route, held.lane, monotonic_ms) {
                Permit::Probe if !probes.contains(&held.route) => probes.push(held.route),
                Permit::Go => {}
                Permit::Probe | Permit::Wait => {
                    held.instead = Some(step_aside(&held, now_ms));
                    aside.push(held);
                    continue;
                }
            }
            going.push(held);
        }
        self.admit_instead(aside).await;
        going
    }

    /// Has jobs put aside until their slots come. None of them calls, so that they need no place among the calls.
    pub(super) async fn put_aside(&mut self, mut crowd: Crowd) {
        let shared = Arc::clone(&self.shared);
        let crowds = &shared.partitions[self.partition].crowds;
        while !crowd.is_empty() {
            if self.stop.is_cancelled() {
                return crowd.release();
            }
            let most = if crowd.jobs.len() > MANY_ASIDE { MANY_ASIDE } else { FEW_ASIDE };
            let mut batch: Vec<Box<Held>> = crowd.jobs.drain(..crowd.jobs.len().min(most)).collect();
            let names: Vec<String> = batch.iter().map(|held| held.bucket.name.clone()).collect();
            if shared.control.any() {
                batch = self.screen(batch).await;
            }
            if !batch.is_empty() {
                self.admit(batch, Asks::ToWait).await;
            }
            for name in names {
                crowds.left(&name);
            }
        }
    }

    /// Does what operators ordered for some of the jobs; the others are returned.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn screen(&mut self, ready: Vec<Box<Held>>) -> Vec<Box<Held>> {
        let rules = self.shared.control.rules();
        let now_ms = self.shared.clock.now_ms();
        let mut going = Vec::with_capacity(ready.len());
        let mut instead = Vec::new();
        for mut held in ready {
            match judge(&rules, &held, now_ms) {
                Judgement::Go => going.push(held),
                Judgement::Stay if held.taken_over => held.leave(),
                Judgement::Stay => held.end(End::Called(Verdict::Release)),
                Judgement::Instead(what) => {
                    held.instead = Some(what);
                    instead.push(held);
                }
            }
        }
        self.admit_instead(instead).await;
        going
    }

    /// Admits those that are not to call.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn admit_instead(&mut self, mut instead: Vec<Box<Held>>) {
        while !instead.is_empty() {
            let (lane, source) = (instead[0].lane, instead[0].source);
            let alike = instead.iter().take_while(|held| (held.lane, held.source) == (lane, source)).count();
            let batch = instead.drain(..alike.min(MAX_ADMIT)).collect();
            self.admit(batch, Asks::ToCall).await;
        }
    }

    /// One round trip for a batch that has its slots, or needs none.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn admit(&mut self, mut batch: Vec<Box<Held>>, asks: Asks) {
        let requests: Vec<AdmissionRequest> = batch.iter_mut().map(|held| self.request(held, asks)).collect();
        let keys = &self.shared.partitions[self.partition].keys;
        let window = self.shared.queue.dedupe_window;
        let stream = keys.stream(batch[0].lane, batch[0].source);
        let consumer = &self.shared.consumer;
        let must_outlive_master =
            self.shared.durability == Durability::Replicated && requests.iter().any(|request| request.mark.is_some());
        let mut asking = 0;
        let answers = loop {
            asking += 1;
            match queue::admit(&mut self.link, keys, stream, consumer, window, asking, &requests).await {
                Ok(answers) => {
                    // Before any wait: then it would be the clock of a while ago.
                    self.shared.clock.set(answers.now_ms);
                    if !must_outlive_master {
                        break answers;
                    }
                    tokio::select! {
                        // A mark that a failover loses would let a call be made again that must not be.
                        kept = await_replica(&self.shared, &mut self.link, &mut self.pulse) => if kept { break answers },
                        () = self.stop.cancelled() => return hand_back(batch, requests),
                    }
                }
                Err(error) => {
                    self.shared.metrics.redis_error("admit");
                    self.shared.whole_script_failed("admit", &error);
                    tokio::select! {
                        () = tokio::time::sleep(self.pulse.ill("admit", &error)) => {}
                        () = self.stop.cancelled() => return hand_back(batch, requests),
                    }
                }
            }
        };
        self.pulse.well();
        let mut admitted = Vec::with_capacity(batch.len());
        for ((mut held, request), verdict) in batch.into_iter().zip(requests).zip(answers.verdicts) {
            held.state.accepted |= verdict != Admission::Duplicate;
            match verdict {
                Admission::Admitted => {
                    if held.doubt != Doubt::Harmless {
                        held.unmark = request.mark.map_or(Unmark::Any, Unmark::Called);
                    }
                    held.state.resume(answers.now_ms);
                    held.state.started_at_ms.get_or_insert(answers.now_ms);
                    if held.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.shared.clock.now_ms()) {
                        // It was admitted in time, and the wait for a replica was longer than that.
                        held.end(End::Expired { limited: false });
                    } else {
                        admitted.push(Delivery::new(held));
                    }
                }
                Admission::Duplicate => held.end(End::Duplicate),
                Admission::Expired => {
                    let end = held.instead.take().into();
                    held.end(end);
                }
                Admission::TooLate => held.end(End::Expired { limited: true }),
                Admission::Limited { due_us } => {
                    let now_us = answers.now_ms.saturating_mul(1000);
                    self.shared.partitions[self.partition].crowds.note(&held.bucket, due_us, now_us);
                    held.state.reserve(SlotKind::Reserved);
                    held.end(End::Aside(Waiting::Limit, due_us));
                }
                Admission::LimitedByTotal { due_us } => {
                    held.state.reserve(SlotKind::Reserved);
                    held.state.reserved_total = true;
                    held.end(End::Aside(Waiting::Limit, due_us));
                }
                Admission::Late { due_us } => {
                    held.state.reserve(SlotKind::InLine);
                    held.end(End::Aside(Waiting::Limit, due_us));
                }
                Admission::Queued => {
                    held.state.spend_slots();
                    held.end(End::Queued(SharedBucket::Client));
                }
                Admission::QueuedByTotal => {
                    if held.bucket.shared.is_some() {
                        held.state.spend_slots();
                    } else if !held.state.reserved {
                        held.state.reserve(SlotKind::Reserved);
                    }
                    held.end(End::Queued(SharedBucket::Total));
                }
                Admission::Scheduled { due_us } => held.end(End::Aside(Waiting::Schedule, due_us)),
                Admission::Begun => begun(held),
                Admission::NotOurs => held.leave(),
            }
        }
        if !admitted.is_empty() {
            // A closed channel means that the worker is stopping: dropped deliveries hand themselves back.
            let _ = self.out.send(admitted).await;
        }
    }

    fn request(&self, held: &mut Held, asks: Asks) -> AdmissionRequest {
        let fresh = !held.state.accepted;
        let slot = |reserved: bool| if reserved { Slot::Yes } else { Slot::No };
        let total = self.shared.limits.total();
        AdmissionRequest {
            entry: held.entry,
            token: held.state.origin.to_string(),
            // A batch counts a job once, however often it is admitted: one without an id reserves its origin for that.
            reserve_id: match &held.job.id {
                Some(id) => Some(id.as_str().to_owned()),
                None => held.job.batch.as_ref().map(|_| held.state.origin.to_string()),
            }
            .filter(|_| fresh),
            count_in_batch: held.job.batch.clone().filter(|_| fresh),
            bucket: (held.bucket.clone(), slot(held.state.reserved)),
            slot: held.state.holds_slot().then(|| HeldSlot {
                kind: held.state.slot,
                since_ms: held.state.waiting.map_or(0, |(_, since_ms)| since_ms),
            }),
            bulk_age: held.bulk_age().filter(|_| held.bucket.shared.is_some() || total.is_some()),
            total: total.map(|total| (total, slot(held.state.reserved_total))),
            deadline_ms: if held.instead.is_some() { Some(0) } else { held.deadline_ms },
            run_at_ms: held.job.run_at_ms,
            mark: (held.doubt != Doubt::Harmless)
                .then(|| format!("{}:{}", self.shared.consumer, MARKS.fetch_add(1, Ordering::Relaxed))),
            aside: asks == Asks::ToWait,
        }
    }
}

/// What jobs are brought before Redis for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// They have slots, or are not to call.
    ToCall,
    /// They have none.
    ToWait,
}

/// So many are put aside in one round trip: Redis does nothing else meanwhile, and they are in no hurry.
const FEW_ASIDE: usize = 16;

/// The same where more than that are there: they came all at once, others stand behind them, and are sooner reached so.
const MANY_ASIDE: usize = 64;

/// Whether the marks were set is unknown, and no call was made: the release takes them off, but no others.
#[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
fn hand_back(batch: Vec<Box<Held>>, requests: Vec<AdmissionRequest>) {
    for (mut held, request) in batch.into_iter().zip(requests) {
        held.unmark = request.mark.map_or(Unmark::Nothing, Unmark::Own);
        held.end(End::Called(Verdict::Release));
    }
}

/// What becomes of a job whose route's breaker is not closed.
fn step_aside(held: &Held, now_ms: u64) -> Instead {
    if held.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
        return Instead::Expire;
    }
    let due_ms = now_ms.saturating_add(aside::LONGEST_MS).min(held.deadline_ms.unwrap_or(u64::MAX));
    Instead::Hold { by: Holder::Breaker(held.route), due_ms }
}

/// Takes up to `want` slots: a few at a time where they come free one by one.
async fn slots(shared: &Shared, lane: Lane, want: usize) -> usize {
    let slots = &shared.slots;
    let _demand = slots.demand(lane);
    slots.available(lane, want.min((slots.total() / 16).max(1))).await;
    slots.acquire(lane, want).await
}

/// Another delivery of the job began a call that is unsafe to repeat, and has not ended it.
fn begun(mut held: Box<Held>) {
    if !held.taken_over {
        // A first delivery: the group was lost and made anew while another worker is, for all we know, alive and calling.
        // Left pending, the job is taken over after a lease if that worker does not end it.
        held.leave();
        return;
    }
    held.unmark = Unmark::Any;
    match held.lost() {
        None => held.end(End::Called(Verdict::Continue)),
        Some(error) => held.end(End::Dead(error)),
    }
}
