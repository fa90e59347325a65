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
            xco_ms: None,
            dead: true,
        },
    }
}

/// The end of a job, or of this delivery of it.
pub(super) fn of_job(active: &mut ActiveJob, end: End, now_ms: u64) -> ReadyEnd {
    let job_type = active.job.job_type;
    let waits =
        matches!(end, End::Called(NextStep::Retry { .. } | NextStep::Continue) | End::Delayed(..) | End::Queued(_));
    // Without this it would run again only to be cancelled.
    let end = if waits && active.is_cancelled() { End::Cancelled } else { end };
    let (op, note) = match end {
        End::Called(NextStep::Succeeded { outcome, result }) => {
            complete(active, &JobEnd::Succeeded { outcome, result: result.as_ref() }, now_ms)
        }
        End::Called(NextStep::Failed { error, dead_letter }) => {
            complete(active, &JobEnd::Failed { error: &error, dead_letter }, now_ms)
        }
        End::DeadLetter(error) => {
            let error = doubt_first(&active.state, error);
            complete(active, &JobEnd::Failed { error: &error, dead_letter: true }, now_ms)
        }
        End::Called(NextStep::Retry { error, delay_ms }) => {
            let due_ms = now_ms.saturating_add(delay_ms);
            if active.deadline_ms.is_some_and(|deadline_ms| due_ms >= deadline_ms) {
                let mut late = completion::expired(active, false);
                late.message = format!("{}; the last attempt: {}", late.message, error.message);
                late.http_status = error.http_status;
                cut_short(active, &JobEnd::Expired { error: &late }, now_ms)
            } else {
                active.state.wait(Waiting::Retry, now_ms);
                (park(active, due_ms.saturating_mul(1000)), EndMetric::Retry(job_type))
            }
        }
        End::Called(NextStep::Continue) => {
            active.state.wait(Waiting::Slot, now_ms);
            (requeue(active), EndMetric::Nothing)
        }
        // A deferral is written elsewhere. If one gets here, the job is handed back and runs again.
        End::Called(NextStep::Release | NextStep::Defer { .. }) => {
            if active.state.waiting.is_none() {
                active.state.wait(Waiting::Slot, now_ms);
            }
            (requeue(active), EndMetric::Nothing)
        }
        End::Delayed(why, due_us) => {
            active.state.resume(now_ms);
            active.state.wait(why, now_ms);
            let note = if why == Waiting::Limit { EndMetric::Limited(job_type) } else { EndMetric::Nothing };
            (park(active, due_us), note)
        }
        End::Queued(bucket) => {
            active.state.resume(now_ms);
            active.state.wait(Waiting::Limit, now_ms);
            (queue_up(active, bucket, now_ms), EndMetric::Limited(job_type))
        }
        End::Expired { limited } => {
            let error = completion::expired(active, limited);
            cut_short(active, &JobEnd::Expired { error: &error }, now_ms)
        }
        // This delay is written elsewhere, unless the job has been cancelled.
        End::Cancelled | End::DelayedBy { .. } => {
            let error = completion::cancelled(active);
            cut_short(active, &JobEnd::Cancelled { error: &error }, now_ms)
        }
        End::Duplicate => {
            let reply_for = active.job.reply.then(|| active.id.clone());
            (FinishOp::Drop { reply_for }, EndMetric::Duplicate)
        }
    };
    ReadyEnd {
        key: (active.lane, active.source, active.entry),
        finish: Finish {
            entry: active.entry,
            origin: active.state.origin.to_string(),
            unmark: std::mem::take(&mut active.unmark),
            op,
        },
        note,
    }
}

/// Ends a job because of its deadline or an operator. If an earlier call may have taken effect, it fails in doubt.
fn cut_short(active: &mut ActiveJob, end: &JobEnd<'_>, now_ms: u64) -> (FinishOp, EndMetric) {
    match end {
        JobEnd::Expired { error } | JobEnd::Cancelled { error } if error.kind == ErrorKind::InDoubt => {
            complete(active, &JobEnd::Failed { error, dead_letter: true }, now_ms)
        }
        end => complete(active, end, now_ms),
    }
}

fn complete(active: &mut ActiveJob, end: &JobEnd<'_>, now_ms: u64) -> (FinishOp, EndMetric) {
    let op = completion::of_job(active, end, now_ms);
    let (status, dead) = match end {
        JobEnd::Succeeded { .. } => (Status::Succeeded, false),
        JobEnd::Failed { dead_letter, .. } => (Status::Failed, *dead_letter),
        JobEnd::Expired { .. } => (Status::Expired, false),
        JobEnd::Cancelled { .. } => (Status::Cancelled, false),
    };
    let total_ms = now_ms.saturating_sub(active.state.enqueued_at_ms());
    let timings = completion::timings(active, total_ms);
    let (queued_ms, xco_ms) = (timings.queued, active.state.started_at_ms.map(|_| timings.xco));
    if let JobEnd::Failed { error, .. } = end {
        tracing::info!(id = active.id, kind = error.kind.as_str(), status = error.http_status, "job failed");
    }
    (op, EndMetric::Completed { job_type: Some(active.job.job_type), status, queued_ms, total_ms, xco_ms, dead })
}

fn park(active: &mut ActiveJob, due_us: u64) -> FinishOp {
    FinishOp::Park { due_us, place: None, state: active.state.to_json(), job: std::mem::take(&mut active.raw) }
}

fn queue_up(active: &mut ActiveJob, bucket: SharedBucket, now_ms: u64) -> FinishOp {
    let due_us = latest_ms(active, now_ms).saturating_mul(1000);
    let place = active.bulk_age().map(|age| QueuePosition { bucket, age });
    FinishOp::Park { due_us, place, state: active.state.to_json(), job: std::mem::take(&mut active.raw) }
}

/// When a job in a shared bucket's queue is looked at in any case: at its deadline, so that it ends in time.
pub(super) fn latest_ms(active: &ActiveJob, now_ms: u64) -> u64 {
    active.deadline_ms.unwrap_or_else(|| now_ms.saturating_add(LONGEST_QUEUE_MS))
}

fn requeue(active: &mut ActiveJob) -> FinishOp {
    FinishOp::Requeue { state: active.state.to_json(), job: std::mem::take(&mut active.raw) }
}
