//! From what was read to what may be called: parse, plan, admit, hand on.

use super::{
    delivery::{Delivery, End, Ending, Held, Rejected},
    health::Pulse,
    orders::{Judgement, judge},
    replication::await_replica,
    shared::Shared,
};
use crate::{
    config::Durability,
    contract::{ErrorKind, Fault, JobError, JobType, Lane, MerchantId, Origin, ParseContext, Rejection, parse_job},
    jobs::{Doubt, JobState, Surroundings, Verdict, Waiting, plan},
    limits::SharedBucket,
    queue::{self, Admission, AdmissionRequest, Held as Slot, HeldSlot, Link, MAX_ADMIT, RawEntry, Source},
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

/// Tells jobs from what is none, and takes their leases.
#[derive(Debug, Clone)]
pub(super) struct Sorter {
    shared: Arc<Shared>,
    partition: usize,
}

/// Valid jobs, leased and waiting for slots.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
pub(super) struct Sorted(Vec<Box<Held>>);

impl Sorted {
    /// Takes out the jobs of crowds: callers who, as far as is known, have no slot for a while. They would hold up those
    /// that came with them, to be told that they have to wait.
    pub(super) fn crowds(&mut self) -> Self {
        let apart = self.0.extract_if(.., |held| {
            let (crowds, now_ms) = (&held.shared.crowds, held.shared.clock.now_ms());
            held.lane == Lane::Interactive
                && held.source == Source::Jobs
                && !held.taken_over
                && crowds.is_crowded(&held.bucket, now_ms.saturating_mul(1000))
        });
        Self(apart.collect())
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives them back: there will be no calls.
    pub(super) fn release(self) {
        for held in self.0 {
            held.end(End::Called(Verdict::Release));
        }
    }
}

impl Sorter {
    /// Sorts what was read (asked for at `asked_at_ms` of the process's clock): what is no job is ended here.
    pub(super) fn sort(&self, entries: Vec<RawEntry>, asked_at_ms: i64) -> Sorted {
        let mut ready: Vec<Box<Held>> = Vec::with_capacity(entries.len());
        self.shared.slots.unwritten(entries.len());
        for entry in entries {
            match self.prepare(entry, asked_at_ms) {
                Prepared::Ready(held) => ready.push(held),
                Prepared::Ended => {}
                Prepared::HeldAlready => self.shared.slots.written(1),
            }
        }
        Sorted(ready)
    }

    fn prepare(&self, entry: RawEntry, asked_at_ms: i64) -> Prepared {
        let shared = &self.shared;
        let partition = &shared.partitions[self.partition];
        let key = (entry.lane, entry.source, entry.id);
        let Some(lease) = partition.leases.take(key, asked_at_ms) else { return Prepared::HeldAlready };

        let mut state = remembered(&entry, partition.keys.partition);
        state.losses = state.losses.saturating_add(entry.deliveries.saturating_sub(1));
        let default_id = state.origin.to_string();
        let context = ParseContext {
            allow_missing_caller_id: shared.allow_missing_caller_id,
            default_id: &default_id,
            generation: state.generation,
        };
        let job = match parse_job(&entry.job, context) {
            Ok(job) => job,
            Err(rejection) => return self.reject(entry, state, *rejection),
        };
        let merchant = match (&job.merchant_id, &shared.default_merchant) {
            (Some(merchant), _) | (None, Some(merchant)) => merchant.clone(),
            // A check names no merchant to XCO.
            (None, None) if job.job_type == JobType::CheckUser => MerchantId::from_checked(""),
            (None, None) => {
                let fault = Fault {
                    pointer: "/merchant_id".to_owned(),
                    detail: "is required: the worker has no xco.merchant_id to fall back on".to_owned(),
                };
                let rejection = Rejection {
                    kind: ErrorKind::InvalidJob,
                    faults: vec![fault],
                    reply: job.reply,
                    id: job.id,
                    job_type: Some(job.job_type),
                    caller_id: job.caller_id,
                    customer_reference: job.customer_reference,
                    merchant_id: None,
                    batch: job.batch,
                    meta: job.meta,
                    traceparent: job.traceparent,
                };
                return self.reject(entry, state, rejection);
            }
        };
        let deadline_ms = shared.deadline_ms(&job, entry.lane, state.enqueued_at_ms());
        let planned = plan(&job, &state, Surroundings { merchant: &merchant });
        let (doubt, bucket) = (planned.doubt, shared.limits.bucket(planned.rate_class, planned.spender));
        if entry.deliveries > 1 && doubt == Doubt::Harmless {
            // Calls that leave no mark: the lost worker is taken to have made one each time.
            state.attempts = state.attempts.saturating_add(entry.deliveries - 1);
        }
        let held = Box::new(Held {
            shared: Arc::clone(shared),
            partition: self.partition,
            lane: entry.lane,
            source: entry.source,
            entry: entry.id,
            id: job.id.as_ref().map_or(default_id, |id| id.as_str().to_owned()),
            job,
            raw: entry.job,
            state,
            merchant,
            deadline_ms,
            bucket,
            doubt,
            marked: false,
            has_slot: false,
            calling: false,
            lease,
            taken_over: entry.deliveries > 1,
            instead: None,
        });
        if held.state.losses >= shared.max_deliveries {
            let mut held = held;
            held.marked = true;
            let message = format!("delivered {} times, and no worker lived to finish it", held.state.losses);
            held.end(End::Dead(JobError::plain(ErrorKind::CrashLoop, message, true)));
            return Prepared::Ended;
        }
        if entry.deliveries > 1 {
            tracing::info!(id = held.id, deliveries = entry.deliveries, "taken over from a lost worker");
        }
        Prepared::Ready(held)
    }

    fn reject(&self, entry: RawEntry, state: JobState, rejection: Rejection) -> Prepared {
        let _ = self.shared.partitions[self.partition].endings.send(Ending::Rejected(Box::new(Rejected {
            lane: entry.lane,
            source: entry.source,
            entry: entry.id,
            raw: entry.job,
            state,
            rejection,
        })));
        Prepared::Ended
    }
}

static MARKS: AtomicU64 = AtomicU64::new(0);

impl Intake {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: usize,
        out: mpsc::Sender<Vec<Delivery>>,
        stop: CancellationToken,
    ) -> Self {
        let link = shared.connector.link(false);
        let pulse = shared.health.pulse();
        let sorter = Sorter { shared: Arc::clone(&shared), partition };
        let orders = shared.control.changes();
        Self { shared, partition, sorter, link, pulse, out, orders, stop }
    }

    /// What sorts entries for this way in.
    pub(super) fn sorter(&self) -> Sorter {
        self.sorter.clone()
    }

    /// Takes in what was read (asked for at `asked_at_ms` of the process's clock), as [`Intake::let_in`] does.
    pub(super) async fn take(&mut self, entries: Vec<RawEntry>, asked_at_ms: i64) {
        let sorted = self.sorter.sort(entries, asked_at_ms);
        self.let_in(sorted).await;
    }

    /// Returns when every job is admitted, put aside or ended: that is the back pressure on reading. Tells how long they
    /// waited for their slots.
    pub(super) async fn let_in(&mut self, Sorted(mut ready): Sorted) -> Duration {
        let mut waited = Duration::ZERO;
        loop {
            if self.shared.control.any() || ready.iter().any(|held| held.state.cancelled) {
                ready = self.screen(ready).await;
            }
            if ready.is_empty() {
                return waited;
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
            let mut batch: Vec<Box<Held>> = ready.drain(..taken).collect();
            for held in &mut batch {
                held.has_slot = true;
            }
            self.admit(batch, Asks::ToCall).await;
        }
    }

    /// Has jobs put aside until their slots come. None of them calls, so that they need no place among the calls.
    pub(super) async fn put_aside(&mut self, Sorted(mut crowd): Sorted) {
        while !crowd.is_empty() {
            if self.stop.is_cancelled() {
                return Sorted(crowd).release();
            }
            let mut batch: Vec<Box<Held>> = crowd.drain(..crowd.len().min(MAX_ASIDE)).collect();
            if self.shared.control.any() {
                batch = self.screen(batch).await;
            }
            if !batch.is_empty() {
                self.admit(batch, Asks::ToWait).await;
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
        while !instead.is_empty() {
            let (lane, source) = (instead[0].lane, instead[0].source);
            let alike = instead.iter().take_while(|held| (held.lane, held.source) == (lane, source)).count();
            let batch = instead.drain(..alike.min(MAX_ADMIT)).collect();
            self.admit(batch, Asks::ToCall).await;
        }
        going
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
        let answers = loop {
            match queue::admit(&mut self.link, keys, stream, consumer, window, &requests).await {
                Ok(answers) if !must_outlive_master => break answers,
                Ok(answers) => tokio::select! {
                    // A mark that a failover loses would let a call be made again that must not be.
                    kept = await_replica(&self.shared, &mut self.link, &mut self.pulse) => if kept { break answers },
                    () = self.stop.cancelled() => return hand_back(batch),
                },
                Err(error) => {
                    self.shared.metrics.redis_error("admit");
                    tokio::select! {
                        () = tokio::time::sleep(self.pulse.ill("admit", &error)) => {}
                        () = self.stop.cancelled() => return hand_back(batch),
                    }
                }
            }
        };
        self.pulse.well();
        self.shared.clock.set(answers.now_ms);
        let mut admitted = Vec::with_capacity(batch.len());
        for (mut held, verdict) in batch.into_iter().zip(answers.verdicts) {
            held.state.accepted |= verdict != Admission::Duplicate;
            match verdict {
                Admission::Admitted => {
                    held.marked = held.doubt != Doubt::Harmless;
                    held.state.resume(answers.now_ms);
                    held.state.started_at_ms.get_or_insert(answers.now_ms);
                    admitted.push(Delivery::new(held));
                }
                Admission::Duplicate => held.end(End::Duplicate),
                Admission::Expired => {
                    let end = held.instead.take().into();
                    held.end(end);
                }
                Admission::TooLate => held.end(End::Expired { limited: true }),
                Admission::Limited { due_us } => {
                    self.shared.crowds.note(&held.bucket, due_us, answers.now_ms.saturating_mul(1000));
                    held.state.reserve(due_us, false);
                    held.end(End::Aside(Waiting::Limit, due_us));
                }
                Admission::LimitedByTotal { due_us } => {
                    held.state.reserve(due_us, false);
                    held.state.reserved_total = true;
                    held.end(End::Aside(Waiting::Limit, due_us));
                }
                Admission::Late { due_us } => {
                    held.state.reserve(due_us, true);
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
                        held.state.reserve(answers.now_ms.saturating_mul(1000), false);
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
                at_us: held.state.slot_us,
                late: held.state.late,
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

/// The most that are put aside in one round trip: Redis does nothing else meanwhile, and they are in no hurry.
const MAX_ASIDE: usize = 64;

/// Whether the marks were set is unknown, and no call was made: the release takes them off.
#[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
fn hand_back(batch: Vec<Box<Held>>) {
    for mut held in batch {
        held.marked = held.doubt != Doubt::Harmless;
        held.end(End::Called(Verdict::Release));
    }
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
    held.marked = true;
    match held.lost() {
        None => held.end(End::Called(Verdict::Continue)),
        Some(error) => held.end(End::Dead(error)),
    }
}

enum Prepared {
    Ready(Box<Held>),
    Ended,
    HeldAlready,
}

/// A job's memory: what lies beside it, or a fresh one. A state that does not belong to a stream of ours is ignored.
fn remembered(entry: &RawEntry, partition: u16) -> JobState {
    let kept = match entry.source {
        Source::Due => entry.state.as_deref().and_then(JobState::from_json),
        Source::Jobs => None,
    };
    kept.unwrap_or_else(|| {
        let mut state = JobState::new(Origin { lane: entry.lane, partition, entry: entry.id });
        state.parent_id.clone_from(&entry.parent);
        state.generation = entry.generation;
        state
    })
}
