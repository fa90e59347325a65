//! `StartOtp`: sends the customer a code. It is never repeated if the code may have been sent.

use super::{NextCall, NextStep, RepeatSafety, check_user::spender, next_step::mismatched};
use crate::{
    contract::{Contact, Job, JobType, MerchantId, Outcome},
    xco::{Answer, Call},
};

pub(super) fn next_call<'a>(job: &'a Job, merchant: &'a MerchantId, contact: &'a Contact) -> NextCall<'a> {
    NextCall {
        call: Call::StartOtp { merchant, contact, caller: job.effective_caller.as_ref() },
        spender: spender(job),
        rate_class: JobType::StartOtp,
        repeat_safety: RepeatSafety::Never,
    }
}

pub(super) fn answered(answer: &Answer) -> NextStep {
    match answer {
        Answer::OtpSent => NextStep::Succeeded { outcome: Outcome::OtpSent, result: None },
        _ => mismatched(),
    }
}
