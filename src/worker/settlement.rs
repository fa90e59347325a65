//! How a delivery ends, ready to be written to Redis.

use super::{
    active_job::{ActiveJob, End, Rejected},
    completion::{self, JobEnd},
    ended_delivery::{EndMetric, ReadyEnd},
};
use crate::{
    contract::{ErrorKind, Status},
    jobs::{NextStep, Waiting, doubt_first},
    limits::SharedBucket,
    queue::{Finish, FinishOp, MarkerRemoval, QueuePosition},
};

/// Maximum time in a shared bucket's queue before a job without a deadline is looked at, in case the queue lost it.
const LONGEST_QUEUE_MS: u64 = 86_400_000;

/// The end of an entry that is not a valid job.
pub(super) fn of_rejected(rejected: &Rejected, now_ms: u64) -> ReadyEnd {
    let waited_ms = now_ms.saturating_sub(rejected.state.origin.entry.ms);
    ReadyEnd {
        key: (rejected.lane, rejected.source, rejected.entry),
        finish: Finish {
            entry: rejected.entry,
            origin: rejected.state.origin.to_string(),
            unmark: MarkerRemoval::Nothing,
            op: completion::of_rejected(rejected, now_ms),
        },
        note: EndMetric::Completed {
            job_type: rejected.rejection.job_type,
            status: Status::Rejected,
            queued_ms: waited_ms,
            total_ms: waited_ms,
            dead: true,
        },
    }
}

/// The end of a job, or of this delivery of it.
pub(super) fn of_job(held: &mut ActiveJob, end: End, now_ms: u64) -> ReadyEnd {
    let job_type = held.job.job_type;
    let waits =
        matches!(end, End::Called(NextStep::Retry { .. } | NextStep::Continue) | End::Delayed(..) | End::Queued(_));
    // Without this it would run again only to be cancelled.
    let end = if waits && held.is_cancelled() { End::Cancelled } else { end };
    let (op, note) = match end {
        End::Called(NextStep::Succeeded { outcome, result }) => {
            complete(held, &JobEnd::Succeeded { outcome, result: result.as_ref() }, now_ms)
        }
        End::Called(NextStep::Failed { error, dead_letter }) => {
            complete(held, &JobEnd::Failed { error: &error, dead_letter }, now_ms)
        }
        End::DeadLetter(error) => {
            let error = doubt_first(&held.state, error);
            complete(held, &JobEnd::Failed { error: &error, dead_letter: true }, now_ms)
        }
        End::Called(NextStep::Retry { error, delay_ms }) => {
            let due_ms = now_ms.saturating_add(delay_ms);
            if held.deadline_ms.is_some_and(|deadline_ms| due_ms >= deadline_ms) {
                let mut late = completion::expired(held, false);
                late.message = format!("{}; the last attempt: {}", late.message, error.message);
                late.http_status = error.http_status;
                cut_short(held, &JobEnd::Expired { error: &late }, now_ms)
            } else {
                held.state.wait(Waiting::Retry, now_ms);
                (park(held, due_ms.saturating_mul(1000)), EndMetric::Retry(job_type))
            }
        }
        End::Called(NextStep::Continue) => {
            held.state.wait(Waiting::Slot, now_ms);
            (requeue(held), EndMetric::Nothing)
        }
        // A deferral is written elsewhere. If one gets here, the job is handed back and runs again.
        End::Called(NextStep::Release | NextStep::Defer { .. }) => {
            if held.state.waiting.is_none() {
                held.state.wait(Waiting::Slot, now_ms);
            }
            (requeue(held), EndMetric::Nothing)
        }
        End::Delayed(why, due_us) => {
            held.state.resume(now_ms);
            held.state.wait(why, now_ms);
            let note = if why == Waiting::Limit { EndMetric::Limited(job_type) } else { EndMetric::Nothing };
            (park(held, due_us), note)
        }
        End::Queued(bucket) => {
            held.state.resume(now_ms);
            held.state.wait(Waiting::Limit, now_ms);
            (queue_up(held, bucket, now_ms), EndMetric::Limited(job_type))
        }
        End::Expired { limited } => {
            let error = completion::expired(held, limited);
            cut_short(held, &JobEnd::Expired { error: &error }, now_ms)
        }
        // This delay is written elsewhere, unless the job has been cancelled.
        End::Cancelled | End::DelayedBy { .. } => {
            let error = completion::cancelled(held);
            cut_short(held, &JobEnd::Cancelled { error: &error }, now_ms)
        }
        End::Duplicate => {
            let reply_for = held.job.reply.then(|| held.id.clone());
            (FinishOp::Drop { reply_for }, EndMetric::Duplicate)
        }
    };
    ReadyEnd {
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

/// Ends a job because of its deadline or an operator. If an earlier call may have taken effect, it fails in doubt.
fn cut_short(held: &mut ActiveJob, end: &JobEnd<'_>, now_ms: u64) -> (FinishOp, EndMetric) {
    match end {
        JobEnd::Expired { error } | JobEnd::Cancelled { error } if error.kind == ErrorKind::InDoubt => {
            complete(held, &JobEnd::Failed { error, dead_letter: true }, now_ms)
        }
        end => complete(held, end, now_ms),
    }
}

fn complete(held: &mut ActiveJob, end: &JobEnd<'_>, now_ms: u64) -> (FinishOp, EndMetric) {
    let op = completion::of_job(held, end, now_ms);
    let (status, dead) = match end {
        JobEnd::Succeeded { .. } => (Status::Succeeded, false),
        JobEnd::Failed { dead_letter, .. } => (Status::Failed, *dead_letter),
        JobEnd::Expired { .. } => (Status::Expired, false),
        JobEnd::Cancelled { .. } => (Status::Cancelled, false),
    };
    let total_ms = now_ms.saturating_sub(held.state.enqueued_at_ms());
    let queued_ms = completion::timings(held, total_ms).queued;
    if let JobEnd::Failed { error, .. } = end {
        tracing::info!(id = held.id, kind = error.kind.as_str(), status = error.http_status, "job failed");
    }
    (op, EndMetric::Completed { job_type: Some(held.job.job_type), status, queued_ms, total_ms, dead })
}

fn park(held: &mut ActiveJob, due_us: u64) -> FinishOp {
    FinishOp::Park { due_us, place: None, state: held.state.to_json(), job: std::mem::take(&mut held.raw) }
}

fn queue_up(held: &mut ActiveJob, bucket: SharedBucket, now_ms: u64) -> FinishOp {
    let due_us = latest_ms(held, now_ms).saturating_mul(1000);
    let place = held.bulk_age().map(|age| QueuePosition { bucket, age });
    FinishOp::Park { due_us, place, state: held.state.to_json(), job: std::mem::take(&mut held.raw) }
}

/// When a job in a shared bucket's queue is looked at in any case: at its deadline, so that it ends in time.
pub(super) fn latest_ms(held: &ActiveJob, now_ms: u64) -> u64 {
    held.deadline_ms.unwrap_or_else(|| now_ms.saturating_add(LONGEST_QUEUE_MS))
}

fn requeue(held: &mut ActiveJob) -> FinishOp {
    FinishOp::Requeue { state: held.state.to_json(), job: std::mem::take(&mut held.raw) }
}
