//! `CheckUser`: asks whether XCO knows a customer. It only reads, so it can be repeated freely.

use super::{NextCall, NextStep, RepeatSafety, next_step::mismatched};
use crate::{
    contract::{Contact, Job, JobType, Outcome},
    limits::Spender,
    xco::{Answer, Call},
};
use serde_json::json;

/// Looks up the contact, on behalf of the job's caller.
pub(super) fn next_call<'a>(job: &'a Job, contact: &'a Contact) -> NextCall<'a> {
    let caller = job.effective_caller.as_ref();
    NextCall {
        call: Call::CheckUser { contact, caller },
        spender: spender(job),
        rate_class: JobType::CheckUser,
        repeat_safety: RepeatSafety::Safe,
    }
}

/// Returns the bucket for a call that carries a caller.
pub(super) fn spender(job: &Job) -> Spender<'_> {
    job.effective_caller.as_ref().map_or(Spender::Client, Spender::Caller)
}

pub(super) fn answered(answer: &Answer) -> NextStep {
    match answer {
        &Answer::Exists { exists, token_count } => NextStep::Succeeded {
            outcome: if exists { Outcome::Exists } else { Outcome::Absent },
            result: Some(json!({"exists": exists, "token_count": token_count}).into()),
        },
        _ => mismatched(),
    }
}
