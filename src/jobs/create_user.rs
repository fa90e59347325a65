//! `CreateUser`: creates the user and, with it, the merchant's consent.
//!
//! If a creation is in doubt, the next call checks for the same caller whether the user exists, before any second POST.

use super::{JobState, NextCall, NextStep, RepeatSafety, check_user::spender, next_step::mismatched};
use crate::{
    contract::{Contact, CustomerReference, Job, JobType, MerchantId, NewUser, Outcome},
    limits::Spender,
    xco::{Answer, Call, CallFailure, FailureKind},
};
use serde_json::{Value, json};

pub(super) fn next_call<'a>(
    job: &'a Job,
    state: &JobState,
    merchant: &'a MerchantId,
    customer_reference: &'a CustomerReference,
    contact: &'a Contact,
    user: &'a NewUser,
) -> NextCall<'a> {
    if state.doubt && !state.checked {
        return NextCall {
            call: Call::CheckUser { contact, caller: job.effective_caller.as_ref() },
            spender: spender(job),
            rate_class: JobType::CheckUser,
            repeat_safety: RepeatSafety::Safe,
        };
    }
    NextCall {
        call: Call::CreateUser { merchant, customer_reference, user },
        spender: Spender::Client,
        rate_class: JobType::CreateUser,
        repeat_safety: RepeatSafety::CheckFirst,
    }
}

pub(super) fn answered(state: &mut JobState, customer_reference: &CustomerReference, answer: Answer) -> NextStep {
    match answer {
        Answer::Created(whole) => NextStep::Succeeded { outcome: Outcome::Created, result: Some(whole) },
        Answer::Exists { exists: true, .. } if state.doubt => already(state, customer_reference),
        Answer::Exists { exists: false, .. } if state.doubt => {
            state.checked = true;
            NextStep::Continue
        }
        _ => mismatched(),
    }
}

pub(super) fn failed(
    state: &JobState,
    customer_reference: &CustomerReference,
    failure: &CallFailure,
) -> Option<NextStep> {
    // XCO does not answer 409 to a check after a doubt. If it did, the rule for all types would apply.
    let posting = !state.doubt || state.checked;
    (posting && failure.kind == FailureKind::Conflict).then(|| already(state, customer_reference))
}

fn already(state: &JobState, customer_reference: &CustomerReference) -> NextStep {
    let mut result = json!({"customer_reference": customer_reference.as_str()});
    if state.doubt {
        result["after_doubt"] = Value::Bool(true);
    }
    NextStep::Succeeded { outcome: Outcome::AlreadyExists, result: Some(result.into()) }
}
