//! A job in this process's memory, from its reading to the end of its call.
//!
//! A delivery cannot be lost: if it is dropped without a verdict (a cancelled handler, a panic, a shutdown), it is
//! still handed to the finisher.

use super::{
    ended_delivery::{DelayedDeliveries, ReadyEnd},
    lease::{Lease, Leases},
    redis_clock::RedisClock,
    rules::LoadedRules,
    slots::Slots,
    upstream_health::Probe,
};
use crate::{
    contract::{EntryId, ErrorKind, Job, JobError, JobType, Lane, MerchantId, Rejection},
    jobs::{CallInputs, JobState, NextStep, RepeatSafety, Waiting, lost, panicked},
    limits::{Bucket, SharedBucket},
    queue::{Deferral, MarkerRemoval, Source},
    rules::Subject,
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a job in memory needs of its worker: it can end, and ask whether it is cancelled. One for each partition.
#[derive(Debug)]
pub(super) struct Settler {
    /// To the partition's finishers, which outlive every delivery.
    pub(super) endings: mpsc::UnboundedSender<CompleterTask>,
    /// The deliveries of the partition that this process holds.
    pub(super) leases: Arc<Leases>,
    /// The worker's slots.
    pub(super) slots: Arc<Slots>,
    /// The operators' rules.
    pub(super) control: Arc<LoadedRules>,
    /// Redis's clock.
    pub(super) clock: Arc<RedisClock>,
    /// `worker.max_deliveries`
    pub(super) max_deliveries: u32,
}

/// An active job: everything known of a delivery in this process.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one delivery")]
pub(super) struct ActiveJob {
    pub(super) settler: Arc<Settler>,
    pub(super) lane: Lane,
    pub(super) source: Source,
    pub(super) entry: EntryId,
    /// The job's id, or its origin if it has none.
    pub(super) id: String,
    pub(super) job: Job,
    /// The job's JSON, as it was enqueued.
    pub(super) raw: Vec<u8>,
    pub(super) state: JobState,
    pub(super) merchant: MerchantId,
    pub(super) deadline_ms: Option<u64>,
    /// Bucket of the call, which a 429 closes.
    pub(super) bucket: Bucket,
    /// What to do if the effect of the call is unknown.
    pub(super) repeat_safety: RepeatSafety,
    /// Which call marker is removed when the call ends.
    pub(super) unmark: MarkerRemoval,
    /// Route of the next call, as the job type that owns the call.
    pub(super) route: JobType,
    /// Whether the job has a worker slot.
    pub(super) has_slot: bool,
    /// Set if its call probes whether the route has recovered.
    pub(super) probe: Option<Probe>,
    /// Whether the call is running, or its answer has not been evaluated yet.
    pub(super) calling: bool,
    pub(super) lease: Arc<Lease>,
    /// Whether the job was taken over from a lost worker.
    pub(super) taken_over: bool,
    /// What happens to the job instead of a call.
    pub(super) instead: Option<InsteadOfCall>,
}

impl ActiveJob {
    /// The values that its calls need besides the job.
    pub(super) const fn around(&self) -> CallInputs<'_> {
        CallInputs { merchant: &self.merchant }
    }

    /// Position of a bulk job in the queues of shared buckets: the time of enqueueing, and the order within that
    /// millisecond.
    pub(super) fn bulk_age(&self) -> Option<u64> {
        let (ms, seq) = (self.state.enqueued_at_ms(), self.state.origin.entry.seq);
        (self.lane == Lane::Bulk).then(|| ms.saturating_mul(1000).saturating_add(seq.min(999)))
    }

    /// The properties by which an operator's rule can select it.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::of(&self.job, &self.id, self.lane, self.state.enqueued_at_ms())
    }

    /// Whether an operator cancelled it, as far as this worker knows.
    pub(super) fn is_cancelled(&self) -> bool {
        let Settler { control, clock, .. } = self.settler.as_ref();
        self.state.cancelled || control.any() && control.rules().cancels(&self.subject(), clock.now_ms()).is_some()
    }

    /// Whether it was lost with so many workers (`worker.max_deliveries`) that it is given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.state.losses >= self.settler.max_deliveries
    }

    /// Records the loss of an unsafe call; see [`lost`].
    pub(super) fn lost(&mut self) -> Option<JobError> {
        let Self { job, state, merchant, .. } = self;
        lost(job, state, CallInputs { merchant })
    }

    /// Records a panic; see [`panicked`].
    fn panicked(&mut self) -> JobError {
        let Self { job, state, merchant, calling, .. } = self;
        panicked(job, state, CallInputs { merchant }, *calling)
    }

    /// Drops the job without writing to Redis. The entry stays pending, and another worker takes it over.
    pub(super) fn leave(mut self: Box<Self>) {
        self.free_slot();
        self.settler.leases.end(std::iter::once((self.lane, self.source, self.entry)));
        self.settler.slots.written(1);
    }

    pub(super) fn free_slot(&mut self) {
        if std::mem::take(&mut self.has_slot) {
            self.settler.slots.release(self.lane, 1);
        }
        self.probe = None;
    }

    /// Hands the job to the finisher.
    pub(super) fn end(mut self: Box<Self>, end: End) {
        if !matches!(end, End::Called(NextStep::Defer { .. })) {
            // A 429 keeps its slot until the bucket is closed: otherwise the caller's next job slips through in
            // between.
            self.free_slot();
        }
        let settler = Arc::clone(&self.settler);
        // The finisher outlives every delivery. If it were gone, the lease would bring the job back.
        let _ = settler.endings.send(CompleterTask::Job { active: self, end });
    }
}

/// How a delivery of a valid job ends.
#[derive(Debug)]
pub(super) enum End {
    /// By its call.
    Called(NextStep),
    /// Delayed until `due_us`, without a call.
    Delayed(Waiting, u64),
    /// Placed in the queue of a shared bucket, without a call.
    Queued(SharedBucket),
    /// Its deadline has passed. `limited`: while its caller was over the limit.
    Expired { limited: bool },
    /// It fails for good and becomes a dead letter.
    DeadLetter(JobError),
    /// Another job has the same id.
    Duplicate,
    /// An operator cancelled it.
    Cancelled,
    /// Delayed by a rule or a breaker until `due_ms` on Redis's clock.
    DelayedBy { by: DelayedBy, due_ms: u64 },
}

/// Why a job is delayed without a limit being involved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum DelayedBy {
    /// An operator's rule; holds its name.
    Rule(String),
    /// The breaker of this route.
    Breaker(JobType),
}

/// What happens to a job that must not make its call. It is still admitted, like a job whose deadline has passed:
/// admission alone decides whether it is a duplicate, counts in its batch, or has started an unsafe call.
#[derive(Debug)]
pub(super) enum InsteadOfCall {
    /// The job completes as cancelled.
    Cancel,
    /// The job completes as expired.
    Expire,
    /// The job is delayed until `due_ms` on Redis's clock.
    Delay { by: DelayedBy, due_ms: u64 },
    /// The job was lost with too many workers; it becomes a dead letter.
    GiveUp { losses: u32 },
}

impl From<Option<InsteadOfCall>> for End {
    /// The end of a delivery that admission treated as expired.
    fn from(instead: Option<InsteadOfCall>) -> Self {
        match instead {
            Some(InsteadOfCall::Cancel) => Self::Cancelled,
            Some(InsteadOfCall::Delay { by, due_ms }) => Self::DelayedBy { by, due_ms },
            Some(InsteadOfCall::GiveUp { losses }) => {
                let message = format!("delivered {losses} times, and no worker lived to finish it");
                Self::DeadLetter(JobError::plain(ErrorKind::CrashLoop, message, true))
            }
            Some(InsteadOfCall::Expire) | None => Self::Expired { limited: false },
        }
    }
}

/// Work for the finisher.
#[derive(Debug)]
pub(super) enum CompleterTask {
    /// A valid job.
    Job { active: Box<ActiveJob>, end: End },
    /// An entry that is not a valid job.
    Rejected(Box<Rejected>),
    /// Ends that Redis refused, to be written again.
    Again(Vec<ReadyEnd>),
    /// A deferral after a 429 that Redis refused, to be written again.
    DeferAgain { active: Box<ActiveJob>, deferral: Box<Deferral> },
    /// Delays that Redis refused, to be written again.
    HoldAgain(DelayedDeliveries),
}

/// An entry of a lane that is not a valid job.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) lane: Lane,
    pub(super) source: Source,
    pub(super) entry: EntryId,
    pub(super) raw: Vec<u8>,
    pub(super) state: JobState,
    pub(super) rejection: Rejection,
}

/// An admitted job on its way through apalis.
#[derive(Debug)]
pub(super) struct Delivery(Option<Box<ActiveJob>>);

impl Delivery {
    pub(super) const fn new(active: Box<ActiveJob>) -> Self {
        Self(Some(active))
    }

    /// The job. `None` only after [`Delivery::settle`], which consumes the delivery.
    pub(super) fn active(&mut self) -> Option<&mut ActiveJob> {
        self.0.as_deref_mut()
    }

    /// Ends the delivery with the verdict on its call.
    pub(super) fn settle(mut self, verdict: NextStep) {
        if let Some(active) = self.0.take() {
            active.end(End::Called(verdict));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(mut active) = self.0.take() else { return };
        let end = if std::thread::panicking() {
            End::DeadLetter(active.panicked())
        } else if active.calling && active.repeat_safety != RepeatSafety::Safe {
            // The call was cut off, and its effect is unknown.
            active.lost().map_or(End::Called(NextStep::Continue), End::DeadLetter)
        } else {
            End::Called(NextStep::Release)
        };
        active.end(end);
    }
}
