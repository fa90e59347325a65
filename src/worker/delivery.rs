//! A job in this process's hands, from its reading to the end of its call.
//!
//! A delivery cannot be lost: whatever drops it without a verdict (a cancelled handler, a panic, a shutdown) hands it to the
//! finisher all the same.

use super::{
    clock::RedisClock,
    control::Control,
    lease::{Lease, Leases},
    ready::{Pause, Ready},
    slots::Slots,
    weather::Probe,
};
use crate::{
    contract::{EntryId, ErrorKind, Job, JobError, JobType, Lane, MerchantId, Rejection},
    control::Subject,
    jobs::{Doubt, JobState, Surroundings, Verdict, Waiting, lost, panicked},
    limits::{Bucket, SharedBucket},
    queue::{Deferral, Source, Unmark},
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a job in memory needs of its worker: it can end, and ask whether it is cancelled. One for each partition.
#[derive(Debug)]
pub(super) struct Settler {
    /// To the partition's finishers, which outlive every delivery.
    pub(super) endings: mpsc::UnboundedSender<Ending>,
    /// The deliveries of the partition that this process holds.
    pub(super) leases: Arc<Leases>,
    /// The worker's slots.
    pub(super) slots: Arc<Slots>,
    /// The operators' rules.
    pub(super) control: Arc<Control>,
    /// Redis's clock.
    pub(super) clock: Arc<RedisClock>,
    /// `worker.max_deliveries`
    pub(super) max_deliveries: u32,
}

/// Everything known of a delivered job.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one delivery")]
pub(super) struct Held {
    pub(super) settler: Arc<Settler>,
    pub(super) lane: Lane,
    pub(super) source: Source,
    pub(super) entry: EntryId,
    /// Its id, or its origin.
    pub(super) id: String,
    pub(super) job: Job,
    /// As it was enqueued.
    pub(super) raw: Vec<u8>,
    pub(super) state: JobState,
    pub(super) merchant: MerchantId,
    pub(super) deadline_ms: Option<u64>,
    /// The call's bucket, for a 429.
    pub(super) bucket: Bucket,
    /// What an unknown effect of the call means.
    pub(super) doubt: Doubt,
    /// Which mark of a begun call its end takes off.
    pub(super) unmark: Unmark,
    /// The route of its next call, named by the job type whose call it is.
    pub(super) route: JobType,
    /// It has one of the slots.
    pub(super) has_slot: bool,
    /// Its call finds out whether its route is back.
    pub(super) probe: Option<Probe>,
    /// Its call is under way, or its answer has not been judged yet.
    pub(super) calling: bool,
    pub(super) lease: Arc<Lease>,
    /// It came from a worker that was lost.
    pub(super) taken_over: bool,
    /// What is to become of it instead of a call.
    pub(super) instead: Option<Instead>,
}

impl Held {
    /// What its calls need beyond the job.
    pub(super) const fn around(&self) -> Surroundings<'_> {
        Surroundings { merchant: &self.merchant }
    }

    /// Its age in the queues of shared buckets, for a bulk job: when it was enqueued, and in which order within that
    /// millisecond.
    pub(super) fn bulk_age(&self) -> Option<u64> {
        let (ms, seq) = (self.state.enqueued_at_ms(), self.state.origin.entry.seq);
        (self.lane == Lane::Bulk).then(|| ms.saturating_mul(1000).saturating_add(seq.min(999)))
    }

    /// What an operator's rule can select it by.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::of(&self.job, &self.id, self.lane, self.state.enqueued_at_ms())
    }

    /// Whether an operator cancelled it, as far as this worker knows.
    pub(super) fn is_cancelled(&self) -> bool {
        let Settler { control, clock, .. } = self.settler.as_ref();
        self.state.cancelled || control.any() && control.rules().cancels(&self.subject(), clock.now_ms()).is_some()
    }

    /// Whether it brought so many workers down that it is given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.state.losses >= self.settler.max_deliveries
    }

    /// Books the loss of an unsafe call; see [`lost`].
    pub(super) fn lost(&mut self) -> Option<JobError> {
        let Self { job, state, merchant, .. } = self;
        lost(job, state, Surroundings { merchant })
    }

    /// Books a panic; see [`panicked`].
    fn panicked(&mut self) -> JobError {
        let Self { job, state, merchant, calling, .. } = self;
        panicked(job, state, Surroundings { merchant }, *calling)
    }

    /// Lets go of it without a word to Redis: it stays pending for whoever takes it over.
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

    /// Hands it to the finisher.
    pub(super) fn end(mut self: Box<Self>, end: End) {
        if !matches!(end, End::Called(Verdict::Defer { .. })) {
            // A 429 keeps its slot until the bucket is closed: else the caller's next job slips through in between.
            self.free_slot();
        }
        let settler = Arc::clone(&self.settler);
        // The finisher outlives every delivery; were it gone, the lease would bring the job back.
        let _ = settler.endings.send(Ending::Job { held: self, end });
    }
}

/// How a delivery of a valid job ends.
#[derive(Debug)]
pub(super) enum End {
    /// By its call.
    Called(Verdict),
    /// Without one: it goes aside until `due_us`.
    Aside(Waiting, u64),
    /// Without one: it waits in the queue of a shared bucket.
    Queued(SharedBucket),
    /// Its time is up; `limited`: it ran out while its caller was over the limit.
    Expired { limited: bool },
    /// It ends for good, with a letter.
    Dead(JobError),
    /// Another job has its id.
    Duplicate,
    /// An operator cancelled it.
    Cancelled,
    /// It is held until then, milliseconds on Redis's clock.
    Held { by: Holder, due_ms: u64 },
}

/// What holds a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A rule of that name.
    Rule(String),
    /// The breaker of this route.
    Breaker(JobType),
}

/// What becomes of a job that is not to call. It is admitted all the same, as one whose time is up: whether it is a
/// duplicate, counts in its batch, or began an unsafe call is decided there and nowhere else.
#[derive(Debug)]
pub(super) enum Instead {
    /// It ends as cancelled.
    Cancel,
    /// Its time is up.
    Expire,
    /// It is held until then, milliseconds on Redis's clock.
    Hold { by: Holder, due_ms: u64 },
    /// It brought so many workers down.
    GiveUp { losses: u32 },
}

impl From<Option<Instead>> for End {
    /// The end of a delivery that was answered that its time is up.
    fn from(instead: Option<Instead>) -> Self {
        match instead {
            Some(Instead::Cancel) => Self::Cancelled,
            Some(Instead::Hold { by, due_ms }) => Self::Held { by, due_ms },
            Some(Instead::GiveUp { losses }) => {
                let message = format!("delivered {losses} times, and no worker lived to finish it");
                Self::Dead(JobError::plain(ErrorKind::CrashLoop, message, true))
            }
            Some(Instead::Expire) | None => Self::Expired { limited: false },
        }
    }
}

/// What the finisher is given.
#[derive(Debug)]
pub(super) enum Ending {
    /// A valid job.
    Job { held: Box<Held>, end: End },
    /// Something that is no job.
    Rejected(Box<Rejected>),
    /// Ends that were refused, to be written again.
    Again(Vec<Ready>),
    /// What follows a 429 was refused: to be written again.
    DeferAgain { held: Box<Held>, deferral: Box<Deferral> },
    /// Pauses that were refused, to be written again.
    HoldAgain(Pause),
}

/// Something in a lane that is no valid job.
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
pub(super) struct Delivery(Option<Box<Held>>);

impl Delivery {
    pub(super) const fn new(held: Box<Held>) -> Self {
        Self(Some(held))
    }

    /// The job. `None` only after [`Delivery::settle`], which consumes.
    pub(super) fn held(&mut self) -> Option<&mut Held> {
        self.0.as_deref_mut()
    }

    /// Ends it with its call's verdict.
    pub(super) fn settle(mut self, verdict: Verdict) {
        if let Some(held) = self.0.take() {
            held.end(End::Called(verdict));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(mut held) = self.0.take() else { return };
        let end = if std::thread::panicking() {
            End::Dead(held.panicked())
        } else if held.calling && held.doubt != Doubt::Harmless {
            // Cut off in the middle of a call whose effect is now unknown.
            held.lost().map_or(End::Called(Verdict::Continue), End::Dead)
        } else {
            End::Called(Verdict::Release)
        };
        held.end(end);
    }
}
