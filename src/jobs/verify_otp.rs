//! `VerifyOtp`: verifies the code that the customer typed. It is never repeated if the code may have been used.

use super::{NextCall, NextStep, RepeatSafety, check_user::spender, next_step::mismatched};
use crate::{
    contract::{Contact, Job, JobType, JsonText, MerchantId, Outcome, VerificationCode},
    xco::{Answer, Call},
};
use serde::Serialize;

/// The result of the job. `user` is `null` if XCO sent no profile.
#[derive(Serialize)]
struct VerifiedResult<'a> {
    consent_challenge_id: &'a str,
    user: Option<&'a JsonText>,
}

pub(super) fn next_call<'a>(
    job: &'a Job,
    merchant: &'a MerchantId,
    contact: &'a Contact,
    code: &'a VerificationCode,
) -> NextCall<'a> {
    NextCall {
        call: Call::VerifyOtp { merchant, contact, code, caller: job.effective_caller.as_ref() },
        spender: spender(job),
        rate_class: JobType::VerifyOtp,
        repeat_safety: RepeatSafety::Never,
    }
}

pub(super) fn answered(answer: Answer) -> NextStep {
    match answer {
        Answer::Verified { consent_challenge_id, user } => NextStep::Succeeded {
            outcome: Outcome::Verified,
            result: Some(JsonText::of(&VerifiedResult {
                consent_challenge_id: &consent_challenge_id,
                user: user.as_ref(),
            })),
        },
        _ => mismatched(),
    }
}
