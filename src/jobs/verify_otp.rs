//! `VerifyOtp`: spends the code the customer typed. Never repeated when it may have been spent.

use super::{Doubt, Plan, Verdict, check_user::spender, outcome::mismatched};
use crate::{
    contract::{Contact, Job, JobType, MerchantId, Outcome, VerificationCode},
    xco::{Answer, Call},
};
use serde_json::json;

pub(super) fn plan<'a>(
    job: &'a Job,
    merchant: &'a MerchantId,
    contact: &'a Contact,
    code: &'a VerificationCode,
) -> Plan<'a> {
    Plan {
        call: Call::VerifyOtp { merchant, contact, code, caller: job.effective_caller.as_ref() },
        spender: spender(job),
        rate_class: JobType::VerifyOtp,
        doubt: Doubt::Final,
    }
}

pub(super) fn answered(answer: Answer) -> Verdict {
    match answer {
        Answer::Verified { consent_challenge_id, user } => Verdict::Succeeded {
            outcome: Outcome::Verified,
            result: Some(json!({"consent_challenge_id": consent_challenge_id, "user": user})),
        },
        _ => mismatched(),
    }
}
