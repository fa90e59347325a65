//! The five job types: the call each one makes, and the meaning of each answer. Pure: takes a job, its state and an
//! answer, returns a verdict.
//!
//! Each type has its own file, which includes its policy. Every delivery of a job makes exactly one call. What the next
//! delivery must know is in [`JobState`].
//!
//! # The life of a job
//!
//! ```text
//!            ┌───────────── delayed (limit, retry, run_at, pause) ◀───────┐
//!            ▼                                                            │
//!   waiting ─▶ admitted ─▶ one call ─▶ verdict ─┬─ Succeeded, Failed ─▶ completion (+ dead letter, reply, next)
//!            │                 │                ├─ Retry, Defer ───────────┘
//!            │                 │                └─ Continue ─▶ waiting (next step, same job)
//!            │                 └─ worker lost ─▶ waiting, in doubt where the call is unsafe to repeat
//!            └─ duplicate: dropped · expired, rejected, cancelled: completion
//! ```

mod check_user;
mod create_user;
mod finalize_consent;
mod outcome;
mod start_otp;
mod state;
mod verify_otp;

#[cfg(test)]
mod tests;

pub use outcome::{Verdict, retry_delay_ms};
pub use state::{Checkpoint, JobState, Waiting, fresh};

use crate::{
    config::RetryPolicy,
    contract::{Args, ErrorKind, Job, JobError, JobType, MerchantId},
    limits::Spender,
    xco::{Call, CallReport},
};

/// How safe it is to repeat a call. A call that is not harmless sets a marker in Redis before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Harmless to repeat. The call sets no marker.
    Harmless,
    /// Never repeated. If its effect is unknown, the job ends as `in_doubt`.
    Final,
    /// If the effect is unknown, a check is made before the call is repeated.
    CheckFirst,
    /// The call is repeated. If the answer suggests that an earlier call took effect, the job ends as `in_doubt`.
    Repeat,
}

/// The next call of a job.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The call to make.
    pub call: Call<'a>,
    /// The bucket that the call uses.
    pub spender: Spender<'a>,
    /// The job type whose rate and policy apply. It is that of the call, not of the job.
    pub rate_class: JobType,
    /// What to do if the effect of the call is unknown.
    pub doubt: Doubt,
}

/// What a call needs in addition to its job.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The job's merchant, or else the configured one.
    pub merchant: &'a MerchantId,
}

/// Returns the next call of `job`. The same state always gives the same call.
pub fn plan<'a>(job: &'a Job, state: &'a JobState, around: Surroundings<'a>) -> Plan<'a> {
    match &job.args {
        Args::CheckUser { contact } => check_user::plan(job, contact),
        Args::CreateUser { customer_reference, contact, user } => {
            create_user::plan(job, state, around.merchant, customer_reference, contact, user)
        }
        Args::StartOtp { contact } => start_otp::plan(job, around.merchant, contact),
        Args::VerifyOtp { contact, code } => verify_otp::plan(job, around.merchant, contact, code),
        Args::FinalizeConsent { customer_reference, proof } => {
            finalize_consent::plan(job, state, around.merchant, customer_reference, proof)
        }
    }
}

/// The circumstances in which a call ended.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The retry policy of the job's type.
    pub policy: RetryPolicy,
    /// A random number from 0 up to 1. It is a parameter so that the decision is a pure function.
    pub jitter: f64,
    /// XCO is down as a whole. Its failures cost the job no attempt.
    pub outage: bool,
    /// Whether XCO refuses this client or only this job.
    pub refusal: Refusal,
}

/// What the calls of other jobs say about a refused call (401, 403).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The refusal concerns only this job, as far as is known.
    Own,
    /// The previous call was refused too, and none was accepted since. The refusal may concern all jobs.
    Suspected,
    /// The refusal concerns all jobs.
    Everybodys,
}

/// Decides what an ended call means for its job. Records the call, and what the next step must know, in `state`.
pub fn judge(
    job: &Job,
    state: &mut JobState,
    around: Surroundings<'_>,
    circumstances: Circumstances,
    report: CallReport,
) -> Verdict {
    let doubt = plan(job, state, around).doubt;
    state.attempts = state.attempts.saturating_add(report.calls);
    state.xco_ms += u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
    state.spend_slots();
    match report.result {
        Ok(answer) => match &job.args {
            Args::CheckUser { .. } => check_user::answered(&answer),
            Args::CreateUser { customer_reference, .. } => create_user::answered(state, customer_reference, answer),
            Args::StartOtp { .. } => start_otp::answered(&answer),
            Args::VerifyOtp { .. } => verify_otp::answered(answer),
            Args::FinalizeConsent { proof, .. } => finalize_consent::answered(state, proof, answer),
        },
        Err(failure) => {
            let special = match &job.args {
                Args::CreateUser { customer_reference, .. } => create_user::failed(state, customer_reference, &failure),
                _ => None,
            };
            match special.unwrap_or_else(|| outcome::failed(job, state, circumstances, doubt, failure)) {
                Verdict::Failed { error, dead_letter } => {
                    Verdict::Failed { dead_letter: dead_letter || state.in_doubt(), error: doubt_first(state, error) }
                }
                verdict => verdict,
            }
        }
    }
}

/// Returns the error that a job ends with for `error`. If an earlier call may have taken effect, the kind is
/// `in_doubt`.
///
/// For example, a consent whose answer was lost consumes its challenge: XCO's answer to the repetition (404, 409, 410,
/// 422) may mean that it is done. If XCO gave no answer until the attempts were used up, the error stays: it says
/// nothing about the effect, and the job's dead letter records the doubt.
#[must_use]
pub fn doubt_first(state: &JobState, error: JobError) -> JobError {
    let given_up = matches!(error.kind, ErrorKind::Upstream | ErrorKind::Timeout | ErrorKind::Network);
    if !state.in_doubt() || given_up || error.kind == ErrorKind::InDoubt {
        return error;
    }
    let message = format!("{}; an earlier call may have taken effect", error.message);
    JobError { kind: ErrorKind::InDoubt, message, retryable: false, ..error }
}

/// Returns the error of a job that made the worker panic. `calling` is whether a call had begun and not ended.
pub fn panicked(job: &Job, state: &mut JobState, around: Surroundings<'_>, calling: bool) -> JobError {
    let doubt = plan(job, state, around).doubt;
    if calling {
        state.attempts = state.attempts.saturating_add(1);
        state.spend_slots();
        if let Some(error) = outcome::in_doubt(state, doubt, "the worker failed on this job during the call") {
            return error;
        }
    }
    // The job is not tried again, because it would make the worker panic again.
    doubt_first(state, JobError::plain(ErrorKind::Internal, "the worker failed on this job", true))
}

/// Decides about a job whose worker was lost during a call that is unsafe to repeat. Returns `None` if the job
/// continues (`state` has what it must know), or the error it ends with.
pub fn lost(job: &Job, state: &mut JobState, around: Surroundings<'_>) -> Option<JobError> {
    let doubt = plan(job, state, around).doubt;
    state.attempts = state.attempts.saturating_add(1);
    state.spend_slots();
    outcome::in_doubt(state, doubt, "the worker was lost during the call")
}
