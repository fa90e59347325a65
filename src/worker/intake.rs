//! Admission: takes decoded jobs, gets worker slots, admits them in Redis and passes them to the apalis worker.

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
    queue::{self, Admission, AdmissionRequest, Held as Slot, HeldSlot, IdIndex, Link, MAX_ADMIT, Unmark},
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

    /// The decoder for this admission's entries.
    pub(super) fn sorter(&self) -> Sorter {
        self.sorter.clone()
    }

    /// Returns when every job is admitted, delayed or completed, which is the back pressure on reading. The returned
    /// duration is the time spent waiting for slots.
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
                // One call must find out whether XCO has recovered. Choose one that does no harm if it has not.
                ready[..=harmless].rotate_right(1);
            }
            // A script call handles one stream. Returning jobs are before new ones.
            let (lane, source) = (ready[0].lane, ready[0].source);
            let alike = ready.iter().take_while(|held| (held.lane, held.source) == (lane, source)).count();
            let waiting_since = Instant::now();
            let taken = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    Sorted(ready).release();
                    return waited;
                }
                // The rules changed, and some of these jobs may no longer be allowed to call.
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

    /// Takes the next jobs, up to `taken` slots, that may call now. If a route has failed meanwhile, its jobs stay in
    /// `ready` and their slots are released.
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

    /// Delays the jobs whose route has a breaker that is not closed, except one that can probe the route. Returns the
    /// others.
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

    /// Delays jobs of backlogged callers until their reservations. They make no calls, so they need no slots.
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

    /// Applies the operators' rules. Returns the jobs that no rule affects.
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

    /// Admits jobs that must not make their call.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn admit_instead(&mut self, mut instead: Vec<Box<Held>>) {
        while !instead.is_empty() {
            let (lane, source) = (instead[0].lane, instead[0].source);
            let alike = instead.iter().take_while(|held| (held.lane, held.source) == (lane, source)).count();
            let batch = instead.drain(..alike.min(MAX_ADMIT)).collect();
            self.admit(batch, Asks::ToCall).await;
        }
    }

    /// Admits a batch that has its slots, or needs none, in one round trip.
    #[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
    async fn admit(&mut self, mut batch: Vec<Box<Held>>, asks: Asks) {
        let requests: Vec<AdmissionRequest> = batch.iter_mut().map(|held| self.request(held, asks)).collect();
        let keys = &self.shared.partitions[self.partition].keys;
        let index = IdIndex::of(&self.shared.queue);
        let stream = keys.stream(batch[0].lane, batch[0].source);
        let consumer = &self.shared.consumer;
        let must_outlive_master =
            self.shared.durability == Durability::Replicated && requests.iter().any(|request| request.mark.is_some());
        let mut asking = 0;
        let answers = loop {
            asking += 1;
            match queue::admit(&mut self.link, keys, stream, consumer, index, asking, &requests).await {
                Ok(answers) => {
                    // Set before any wait, because later it would be out of date.
                    self.shared.clock.set(answers.now_ms);
                    if !must_outlive_master {
                        break answers;
                    }
                    tokio::select! {
                        // A call marker lost in a failover would allow a call to be repeated that must not be.
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
                        // It was admitted in time, but the wait for a replica took longer than its deadline.
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
            // A closed channel means that the worker is stopping. Dropped deliveries hand themselves back.
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
            // A batch counts a job once, however often it is admitted. A job without an id reserves its origin for
            // that.
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

/// Why jobs ask for admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// To call: they have slots, or must not call.
    ToCall,
    /// To wait for a reservation: they have no slots.
    ToWait,
}

/// Number of backlogged callers' jobs admitted in one round trip. Small, because Redis does nothing else meanwhile and
/// they are not urgent.
const FEW_ASIDE: usize = 16;

/// The same, if more than that are waiting: they came at once, and jobs behind them are reached sooner this way.
const MANY_ASIDE: usize = 64;

/// Releases jobs whose admission is unknown. No call was made, so each release removes the call marker of its own
/// request and no other.
#[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
fn hand_back(batch: Vec<Box<Held>>, requests: Vec<AdmissionRequest>) {
    for (mut held, request) in batch.into_iter().zip(requests) {
        held.unmark = request.mark.map_or(Unmark::Nothing, Unmark::Own);
        held.end(End::Called(Verdict::Release));
    }
}

/// What happens to a job whose route has a breaker that is not closed.
fn step_aside(held: &Held, now_ms: u64) -> Instead {
    if held.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
        return Instead::Expire;
    }
    let due_ms = now_ms.saturating_add(aside::LONGEST_MS).min(held.deadline_ms.unwrap_or(u64::MAX));
    Instead::Hold { by: Holder::Breaker(held.route), due_ms }
}

/// Takes up to `want` slots. Takes a few at a time if they come free one by one.
async fn slots(shared: &Shared, lane: Lane, want: usize) -> usize {
    let slots = &shared.slots;
    let _demand = slots.demand(lane);
    slots.available(lane, want.min((slots.total() / 16).max(1))).await;
    slots.acquire(lane, want).await
}

/// Handles a job of which another delivery has started an unsafe call and not ended it.
fn begun(mut held: Box<Held>) {
    if !held.taken_over {
        // A first delivery: the group was lost and recreated while another worker may still be alive and calling. The
        // entry stays pending, and is taken over after a lease if that worker does not end it.
        held.leave();
        return;
    }
    held.unmark = Unmark::Any;
    match held.lost() {
        None => held.end(End::Called(Verdict::Continue)),
        Some(error) => held.end(End::Dead(error)),
    }
}
