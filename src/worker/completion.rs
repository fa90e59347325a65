//! Builds the completion of a job, and everything that must be written with it.

use super::active_job::{ActiveJob, Rejected};
use crate::{
    contract::{Completion, ErrorKind, JobError, JsonText, Outcome, Status, Timings, dead_letter_job, format_ms},
    jobs::{JobState, Waiting},
    queue::{Extras, FinishOp, NewChild, NewDeadLetter},
};

/// How a job completes.
pub(super) enum JobEnd<'a> {
    Succeeded { outcome: Outcome, result: Option<&'a JsonText> },
    Failed { error: &'a JobError, dead_letter: bool },
    Expired { error: &'a JobError },
    Cancelled { error: &'a JobError },
}

/// The completion of a valid job, as one operation for Redis.
pub(super) fn of_job(active: &mut ActiveJob, end: &JobEnd<'_>, now_ms: u64) -> FinishOp {
    active.state.resume(now_ms);
    let (job, state) = (&active.job, &active.state);
    let enqueued_at_ms = state.enqueued_at_ms();
    // The producer chooses the entry id, which may be ahead of Redis's clock.
    let completed_at_ms = now_ms.max(enqueued_at_ms).max(state.started_at_ms.unwrap_or(0));
    let (status, outcome, result, error, dead_letter) = match end {
        JobEnd::Succeeded { outcome, result } => (Status::Succeeded, Some(*outcome), *result, None, false),
        JobEnd::Failed { error, dead_letter } => (Status::Failed, None, None, Some(*error), *dead_letter),
        JobEnd::Expired { error } => (Status::Expired, None, None, Some(*error), false),
        JobEnd::Cancelled { error } => (Status::Cancelled, None, None, Some(*error), false),
    };
    // The child is enqueued in the same atomic step, so the completion may name it.
    let next = outcome.and_then(|outcome| job.next.iter().find(|next| next.outcome == outcome));
    let event = Completion {
        v: 1,
        id: &active.id,
        job_type: Some(job.job_type),
        caller_id: job.caller_id.as_ref(),
        customer_reference: job.customer_reference.as_ref().or_else(|| job.args.customer_reference()),
        merchant_id: job.merchant_id.as_ref(),
        batch: job.batch.as_deref(),
        meta: job.meta.as_ref(),
        traceparent: job.traceparent.as_deref(),
        status,
        outcome,
        result,
        error,
        attempts: state.attempts,
        parent_id: state.parent_id.as_deref(),
        next_id: next.map(|next| next.id.as_str()),
        replay: state.replay,
        dead_lettered: dead_letter,
        enqueued_at: format_ms(enqueued_at_ms),
        started_at: state.started_at_ms.map(|ms| format_ms(ms.max(enqueued_at_ms))),
        completed_at: format_ms(completed_at_ms),
        timings_ms: timings(active, completed_at_ms - enqueued_at_ms),
    }
    .to_json();

    let child = next.map(|next| NewChild {
        job: next.job.clone(),
        parent: active.id.clone(),
        generation: state.generation.saturating_add(1),
    });
    let dead = error.filter(|_| dead_letter).map(|error| {
        letter(&active.raw, state, error, completed_at_ms, if job.carries_code { "false" } else { "true" })
    });
    let extras = (job.reply || job.batch.is_some() || child.is_some() || dead.is_some())
        .then(|| Box::new(Extras { reply: job.reply, batch: job.batch.clone(), dead, child }));
    FinishOp::Complete { id: active.id.clone(), job_type: job.job_type.as_str(), status, event, extras }
}

/// Divides the `total` milliseconds of a job among queueing, limits, retries and calls.
pub(super) fn timings(active: &ActiveJob, total: u64) -> Timings {
    let state = &active.state;
    let (limited, retrying, xco) = (state.limited_ms, state.retrying_ms, state.xco_ms);
    Timings { queued: total.saturating_sub(limited + retrying + xco), limited, retrying, xco, total }
}

/// The completion of an entry that is not a valid job: rejected, with a dead letter that cannot be replayed unchanged.
pub(super) fn of_rejected(rejected: &Rejected, now_ms: u64) -> FinishOp {
    let Rejected { rejection, raw, state, .. } = rejected;
    let id = rejection.id.as_ref().map_or_else(|| state.origin.to_string(), |id| id.as_str().to_owned());
    let enqueued_at_ms = state.enqueued_at_ms();
    let completed_at_ms = now_ms.max(enqueued_at_ms);
    let total = completed_at_ms - enqueued_at_ms;
    let error = JobError::rejected(rejection.kind, rejection.faults.clone());
    let event = Completion {
        v: 1,
        id: &id,
        job_type: rejection.job_type,
        caller_id: rejection.caller_id.as_ref(),
        customer_reference: rejection.customer_reference.as_ref(),
        merchant_id: rejection.merchant_id.as_ref(),
        batch: rejection.batch.as_deref(),
        meta: rejection.meta.as_ref(),
        traceparent: rejection.traceparent.as_deref(),
        status: Status::Rejected,
        outcome: None,
        result: None,
        error: Some(&error),
        attempts: 0,
        parent_id: state.parent_id.as_deref(),
        next_id: None,
        replay: state.replay,
        dead_lettered: true,
        enqueued_at: format_ms(enqueued_at_ms),
        started_at: None,
        completed_at: format_ms(completed_at_ms),
        timings_ms: Timings { queued: total, total, ..Timings::default() },
    }
    .to_json();
    let extras = Extras {
        reply: rejection.reply && rejection.id.is_some(),
        batch: rejection.batch.clone(),
        dead: Some(letter(raw, state, &error, completed_at_ms, "false")),
        child: None,
    };
    FinishOp::Complete {
        id,
        job_type: rejection.job_type.map_or("", crate::contract::JobType::as_str),
        status: Status::Rejected,
        event,
        extras: Some(Box::new(extras)),
    }
}

fn letter(raw: &[u8], state: &JobState, error: &JobError, at_ms: u64, replayable: &'static str) -> NewDeadLetter {
    NewDeadLetter {
        job: dead_letter_job(raw),
        // Strings, numbers and XCO's own JSON: serialisation cannot fail.
        error: serde_json::to_string(error).unwrap_or_default(),
        at: format_ms(at_ms),
        replayable,
        state: state.of_a_letter().to_json(),
    }
}

/// The error of a job whose deadline has passed.
pub(super) fn expired(active: &ActiveJob, limited: bool) -> JobError {
    if active.state.doubt {
        let message = "its time is up, and an earlier call may have taken effect";
        return JobError::plain(ErrorKind::InDoubt, message, false);
    }
    let limited = limited || matches!(active.state.waiting, Some((Waiting::Limit, _)));
    if limited {
        JobError::plain(ErrorKind::RateLimited, "its time is up: its caller is over the limit, or closed by XCO", true)
    } else {
        JobError::plain(ErrorKind::Expired, "its time is up", true)
    }
}

/// The error of a job that an operator cancelled.
pub(super) fn cancelled(active: &ActiveJob) -> JobError {
    if active.state.doubt {
        let message = "an operator cancelled it, and an earlier call may have taken effect";
        return JobError::plain(ErrorKind::InDoubt, message, false);
    }
    JobError::plain(ErrorKind::Cancelled, "an operator cancelled it", true)
}
