//! The five job types: what each calls, and what each answer means. Pure: a job, its state and an answer in, a verdict out.
//!
//! One file a type, its policy beside it. Every delivery of a job makes exactly one call; what must be remembered until
//! the next one is in [`JobState`].
//!
//! # The life of a job
//!
//! ```text
//!            ┌────────────── parked (limit, retry, run_at, pause) ◀───────┐
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

/// What must never happen twice by accident, and therefore is marked in Redis before the call begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Harmless to repeat: no mark.
    Harmless,
    /// An effect that is unknown ends the job as `in_doubt`.
    Final,
    /// An effect that is unknown is looked into before the call is repeated.
    CheckFirst,
    /// The call is repeated; an answer that only fits a call which took effect ends the job as `in_doubt`.
    Repeat,
}

/// The next call of a job.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The call itself.
    pub call: Call<'a>,
    /// Whose bucket it spends.
    pub spender: Spender<'a>,
    /// Which type's rate and policy it falls under: that of the call, not of the job.
    pub rate_class: JobType,
    /// What to do when its effect is unknown.
    pub doubt: Doubt,
}

/// What a call needs beyond its job.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The job's merchant, else the configured one.
    pub merchant: &'a MerchantId,
}

/// The next call of `job`. The same state always gives the same call.
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

/// Under which circumstances a call's end is judged.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The retry policy of the job's type.
    pub policy: RetryPolicy,
    /// A random number from 0 up to 1: passed in so that judging stays a function.
    pub jitter: f64,
    /// XCO is down as a whole: its failures cost the job no attempt.
    pub outage: bool,
    /// Whether XCO refuses this client rather than this job.
    pub refusal: Refusal,
}

/// What the calls of other jobs say of a call that was refused (401, 403).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is this job's own, as far as is known.
    Own,
    /// The call before was refused too, and none was accepted since: it may be everybody's.
    Suspected,
    /// It is everybody's.
    Everybodys,
}

/// What an ended call means for its job. Books the call in `state`, and whatever the next step must know.
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

/// The error that a job ends with for `error`: where an earlier call may have taken effect, that comes first.
///
/// A consent whose answer was lost consumes its challenge: what XCO answers to the repetition (404, 409, 410, 422) may well
/// mean "done". Where XCO gave no answer until the attempts were spent, that stays the error: it claims nothing about the
/// effect, and the job's dead letter remembers the doubt.
#[must_use]
pub fn doubt_first(state: &JobState, error: JobError) -> JobError {
    let given_up = matches!(error.kind, ErrorKind::Upstream | ErrorKind::Timeout | ErrorKind::Network);
    if !state.in_doubt() || given_up || error.kind == ErrorKind::InDoubt {
        return error;
    }
    let message = format!("{}; an earlier call may have taken effect", error.message);
    JobError { kind: ErrorKind::InDoubt, message, retryable: false, ..error }
}

/// The end of a job that made the worker fail (a panic), after `calling` began and had no end.
pub fn panicked(job: &Job, state: &mut JobState, around: Surroundings<'_>, calling: bool) -> JobError {
    let doubt = plan(job, state, around).doubt;
    if calling {
        state.attempts = state.attempts.saturating_add(1);
        state.spend_slots();
        if let Some(error) = outcome::in_doubt(state, doubt, "the worker failed on this job during the call") {
            return error;
        }
    }
    // It is not tried again: it would make the worker fail again.
    doubt_first(state, JobError::plain(ErrorKind::Internal, "the worker failed on this job", true))
}

/// What becomes of a job whose worker was lost in the middle of a call that is unsafe to repeat: `None` if it goes on
/// (with what it must know in `state`), else the error it ends with.
pub fn lost(job: &Job, state: &mut JobState, around: Surroundings<'_>) -> Option<JobError> {
    let doubt = plan(job, state, around).doubt;
    state.attempts = state.attempts.saturating_add(1);
    state.spend_slots();
    outcome::in_doubt(state, doubt, "the worker was lost during the call")
}
