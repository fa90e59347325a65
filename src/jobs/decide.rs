//! From a job and its state to its next call, and from the end of that call to a verdict.

use super::{
    CallCircumstances, CallInputs, JobState, NextCall, NextStep, check_user, create_user, finalize_consent, next_step,
    start_otp, verify_otp,
};
use crate::{
    contract::{Args, ErrorKind, Job, JobError, millis},
    xco::CallReport,
};

/// Returns the next call of `job`. The same state always gives the same call.
pub fn next_call<'a>(job: &'a Job, state: &'a JobState, around: CallInputs<'a>) -> NextCall<'a> {
    match &job.args {
        Args::CheckUser { contact } => check_user::next_call(job, contact),
        Args::CreateUser { customer_reference, contact, user } => {
            create_user::next_call(job, state, around.merchant, customer_reference, contact, user)
        }
        Args::StartOtp { contact } => start_otp::next_call(job, around.merchant, contact),
        Args::VerifyOtp { contact, code } => verify_otp::next_call(job, around.merchant, contact, code),
        Args::FinalizeConsent { customer_reference, proof } => {
            finalize_consent::next_call(job, state, around.merchant, customer_reference, proof)
        }
    }
}

/// Decides what an ended call means for its job. Records the call, and what the next step must know, in `state`.
pub fn decide(
    job: &Job,
    state: &mut JobState,
    around: CallInputs<'_>,
    circumstances: CallCircumstances,
    report: CallReport,
) -> NextStep {
    let doubt = next_call(job, state, around).repeat_safety;
    state.attempts = state.attempts.saturating_add(report.calls);
    state.xco_ms += millis(report.elapsed);
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
            match special.unwrap_or_else(|| next_step::failed(job, state, circumstances, doubt, failure)) {
                NextStep::Failed { error, dead_letter } => {
                    NextStep::Failed { dead_letter: dead_letter || state.in_doubt(), error: doubt_first(state, error) }
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
pub fn panicked(job: &Job, state: &mut JobState, around: CallInputs<'_>, calling: bool) -> JobError {
    let doubt = next_call(job, state, around).repeat_safety;
    if calling {
        state.attempts = state.attempts.saturating_add(1);
        state.spend_slots();
        if let Some(error) = next_step::in_doubt(state, doubt, "the worker failed on this job during the call") {
            return error;
        }
    }
    // The job is not tried again, because it would make the worker panic again.
    doubt_first(state, JobError::plain(ErrorKind::Internal, "the worker failed on this job", true))
}

/// Decides about a job whose worker was lost during a call that is unsafe to repeat. Returns `None` if the job
/// continues (`state` has what it must know), or the error it ends with.
pub fn lost(job: &Job, state: &mut JobState, around: CallInputs<'_>) -> Option<JobError> {
    let doubt = next_call(job, state, around).repeat_safety;
    state.attempts = state.attempts.saturating_add(1);
    state.spend_slots();
    next_step::in_doubt(state, doubt, "the worker was lost during the call")
}
