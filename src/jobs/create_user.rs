//! `CreateUser`: creates the user and, with it, the merchant's consent.
//!
//! If a creation is in doubt, the next call checks for the same caller whether the user exists, before any second POST.

use super::{Doubt, JobState, Plan, Verdict, check_user::spender, outcome::mismatched};
use crate::{
    contract::{Contact, CustomerReference, Job, JobType, MerchantId, NewUser, Outcome},
    limits::Spender,
    xco::{Answer, Call, CallFailure, FailureKind},
};
use serde_json::{Value, json};

pub(super) fn plan<'a>(
    job: &'a Job,
    state: &JobState,
    merchant: &'a MerchantId,
    customer_reference: &'a CustomerReference,
    contact: &'a Contact,
    user: &'a NewUser,
) -> Plan<'a> {
    if state.doubt && !state.checked {
        return Plan {
            call: Call::CheckUser { contact, caller: job.effective_caller.as_ref() },
            spender: spender(job),
            rate_class: JobType::CheckUser,
            doubt: Doubt::Harmless,
        };
    }
    Plan {
        call: Call::CreateUser { merchant, customer_reference, user },
        spender: Spender::Client,
        rate_class: JobType::CreateUser,
        doubt: Doubt::CheckFirst,
    }
}

pub(super) fn answered(state: &mut JobState, customer_reference: &CustomerReference, answer: Answer) -> Verdict {
    match answer {
        Answer::Created(whole) => Verdict::Succeeded { outcome: Outcome::Created, result: Some(whole) },
        Answer::Exists { exists: true, .. } if state.doubt => already(state, customer_reference),
        Answer::Exists { exists: false, .. } if state.doubt => {
            state.checked = true;
            Verdict::Continue
        }
        _ => mismatched(),
    }
}

pub(super) fn failed(
    state: &JobState,
    customer_reference: &CustomerReference,
    failure: &CallFailure,
) -> Option<Verdict> {
    // XCO does not answer 409 to a check after a doubt. If it did, the rule for all types would apply.
    let posting = !state.doubt || state.checked;
    (posting && failure.kind == FailureKind::Conflict).then(|| already(state, customer_reference))
}

fn already(state: &JobState, customer_reference: &CustomerReference) -> Verdict {
    let mut result = json!({"customer_reference": customer_reference.as_str()});
    if state.doubt {
        result["after_doubt"] = Value::Bool(true);
    }
    Verdict::Succeeded { outcome: Outcome::AlreadyExists, result: Some(result.into()) }
}
