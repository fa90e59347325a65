//! Decodes the entries that were read: separates jobs from invalid entries, and backlogged callers' jobs from the
//! others.

use super::{
    active_job::{ActiveJob, CompleterTask, End, Rejected, Settler},
    backlogged_callers::{AdmissionPath, BackloggedCallers},
    clock_steps::FUTURE_MS,
    context::WorkerContext,
    redis_clock::RedisClock,
};
use crate::{
    contract::{ErrorKind, Fault, Lane, MerchantId, Origin, ParseContext, Rejection, parse_job},
    jobs::{CallInputs, JobState, NextStep, RepeatSafety, next_call},
    queue::{MarkerRemoval, RawEntry, Source},
};
use std::sync::Arc;

/// Decodes entries, and takes their leases.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    context: Arc<WorkerContext>,
    partition: usize,
    settler: Arc<Settler>,
}

/// Valid jobs, leased and waiting for slots.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
pub(super) struct DecodedJobs(pub(super) Vec<Box<ActiveJob>>);

impl DecodedJobs {
    /// Removes the jobs of backlogged callers, who have no reservation for some time. Admitting them together with the
    /// others would delay the others.
    pub(super) fn backlogged(
        &mut self,
        backlogged_callers: &Arc<BackloggedCallers>,
        clock: &RedisClock,
    ) -> BackloggedJobs {
        let mut clear = true;
        let apart = self.0.extract_if(.., |active| {
            if active.lane != Lane::Interactive
                || active.source != Source::Jobs
                || active.taken_over
                || active.is_given_up()
            {
                return false;
            }
            match backlogged_callers.join(&active.bucket, clock.now_ms().saturating_mul(1000)) {
                AdmissionPath::Direct => false,
                AdmissionPath::Deferred { clear: this } => {
                    clear &= this;
                    true
                }
            }
        });
        BackloggedJobs { jobs: apart.collect(), backlogged_callers: Arc::clone(backlogged_callers), clear }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands the jobs back, because the worker stops.
    pub(super) fn release(self) {
        for active in self.0 {
            active.end(End::Called(NextStep::Release));
        }
    }
}

/// Jobs of backlogged callers: valid, leased, and counted by [`BackloggedCallers`].
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "each goes its own way from here, and is large")]
pub(super) struct BackloggedJobs {
    pub(super) jobs: Vec<Box<ActiveJob>>,
    backlogged_callers: Arc<BackloggedCallers>,
    clear: bool,
}

impl BackloggedJobs {
    pub(super) const fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether no job of these callers is on the direct path.
    pub(super) const fn is_clear(&self) -> bool {
        self.clear
    }

    /// Records that no job of these callers is on the direct path any more.
    pub(super) fn cleared(&mut self) {
        self.clear = true;
        for active in &self.jobs {
            self.backlogged_callers.cleared(&active.bucket.name);
        }
    }

    /// Hands the jobs back, because the worker stops.
    pub(super) fn release(self) {
        for active in self.jobs {
            self.backlogged_callers.left(&active.bucket.name);
            active.end(End::Called(NextStep::Release));
        }
    }
}

impl Decoder {
    pub(super) fn new(context: Arc<WorkerContext>, partition: usize) -> Self {
        let of_partition = &context.partitions[partition];
        let settler = Settler {
            endings: of_partition.endings.clone(),
            leases: Arc::clone(&of_partition.leases),
            slots: Arc::clone(&context.slots),
            control: Arc::clone(&context.control),
            clock: Arc::clone(&context.clock),
            max_deliveries: context.max_deliveries,
        };
        Self { context, partition, settler: Arc::new(settler) }
    }

    /// Decodes entries that were requested at `asked_at_ms` of the process's clock. Invalid entries are ended here.
    pub(super) fn sort(&self, entries: Vec<RawEntry>, asked_at_ms: i64) -> DecodedJobs {
        let mut ready: Vec<Box<ActiveJob>> = Vec::with_capacity(entries.len());
        self.context.slots.unwritten(entries.len());
        for entry in entries {
            match self.prepare(entry, asked_at_ms) {
                DecodedEntry::Ready(active) => ready.push(active),
                DecodedEntry::Ended => {}
                DecodedEntry::HeldAlready => self.context.slots.written(1),
            }
        }
        DecodedJobs(ready)
    }

    fn prepare(&self, entry: RawEntry, asked_at_ms: i64) -> DecodedEntry {
        let context = &self.context;
        let partition = &context.partitions[self.partition];
        let key = (entry.lane, entry.source, entry.id);
        let Some(lease) = partition.leases.take(key, asked_at_ms) else { return DecodedEntry::HeldAlready };

        let mut state = remembered(&entry, partition.keys.partition);
        self.settle_enqueueing(&entry, &mut state);
        state.losses = state.losses.saturating_add(entry.deliveries.saturating_sub(1));
        let default_id = state.origin.to_string();
        let parse_context = ParseContext {
            allow_missing_caller_id: context.allow_missing_caller_id,
            default_id: &default_id,
            generation: state.generation,
        };
        let job = match parse_job(&entry.job, parse_context) {
            Ok(job) => job,
            Err(rejection) => return self.reject(entry, state, *rejection),
        };
        let merchant = match (&job.merchant_id, &context.default_merchant) {
            (Some(merchant), _) | (None, Some(merchant)) => merchant.clone(),
            // A check names no merchant to XCO.
            (None, None) if !job.job_type.facts().names_merchant => MerchantId::from_checked(""),
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
        let deadline_ms = context.deadline_ms(&job, entry.lane, state.enqueued_at_ms());
        let planned = next_call(&job, &state, CallInputs { merchant: &merchant });
        let (repeat_safety, route, bucket) = (
            planned.repeat_safety,
            planned.rate_class,
            context.limits.now().bucket(planned.rate_class, planned.spender),
        );
        if entry.deliveries > 1 && repeat_safety == RepeatSafety::Safe {
            // These calls leave no call marker, so the lost worker is assumed to have made one call each time.
            state.attempts = state.attempts.saturating_add(entry.deliveries - 1);
        }
        let active = Box::new(ActiveJob {
            settler: Arc::clone(&self.settler),
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
            repeat_safety,
            unmark: MarkerRemoval::Nothing,
            route,
            has_slot: false,
            probe: None,
            calling: false,
            lease,
            taken_over: entry.rescued,
            instead: None,
        });
        if entry.rescued {
            tracing::info!(id = active.id, deliveries = entry.deliveries, "taken over from a lost worker");
        }
        DecodedEntry::Ready(active)
    }

    /// Whether there are jobs whose entry ids are ahead of Redis's clock, as far as this worker knows it.
    pub(super) fn finds_future(&self, entries: &[RawEntry]) -> bool {
        let latest_ms = self.context.clock.now_ms().saturating_add(FUTURE_MS);
        entries.iter().any(|entry| entry.id.ms > latest_ms && entry.source == Source::Jobs)
    }

    /// Determines when the job was enqueued. That is the time in its entry id, unless Redis's clock went back since, or
    /// a producer chose an id from the future. (After one such id all later ids in the lane are from the future, too.)
    /// The result is never later than now.
    fn settle_enqueueing(&self, entry: &RawEntry, state: &mut JobState) {
        let context = &self.context;
        let steps = context.partitions[self.partition].steps.all();
        let (taken_ms, known) = state.enqueued.unwrap_or((state.origin.entry.ms, 0));
        let mut at_ms = steps.enqueued_at_ms(state.origin.lane, state.origin.entry, taken_ms, known);
        let now_ms = context.clock.now_ms();
        if at_ms > now_ms.saturating_add(FUTURE_MS) {
            at_ms = now_ms;
            if entry.source == Source::Jobs && !entry.rescued {
                context.metrics.entry_from_the_future();
                if context.clock.may_warn_of_future() {
                    tracing::warn!(
                        lane = entry.lane.as_str(),
                        entry = %entry.id,
                        "an entry id is ahead of Redis's clock, and so are later ids of this lane: its job counts as enqueued \
                         now. Producers must pass XADD the id `*`; if they do, Redis's clock went back"
                    );
                }
            }
        }
        if at_ms != state.origin.entry.ms {
            state.enqueued = Some((at_ms, steps.last_number()));
        }
    }

    fn reject(&self, entry: RawEntry, state: JobState, rejection: Rejection) -> DecodedEntry {
        let _ = self.context.partitions[self.partition].endings.send(CompleterTask::Rejected(Box::new(Rejected {
            lane: entry.lane,
            source: entry.source,
            entry: entry.id,
            raw: entry.job,
            state,
            rejection,
        })));
        DecodedEntry::Ended
    }
}

enum DecodedEntry {
    Ready(Box<ActiveJob>),
    Ended,
    HeldAlready,
}

/// The job's state: the one stored with it, or a new one. A state outside this program's streams is ignored.
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
