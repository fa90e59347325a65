//! `StartOtp`: sends the customer a code. It is never repeated if the code may have been sent.

use super::{Doubt, Plan, Verdict, check_user::spender, outcome::mismatched};
use crate::{
    contract::{Contact, Job, JobType, MerchantId, Outcome},
    xco::{Answer, Call},
};

pub(super) fn plan<'a>(job: &'a Job, merchant: &'a MerchantId, contact: &'a Contact) -> Plan<'a> {
    Plan {
        call: Call::StartOtp { merchant, contact, caller: job.effective_caller.as_ref() },
        spender: spender(job),
        rate_class: JobType::StartOtp,
        doubt: Doubt::Final,
    }
}

pub(super) fn answered(answer: &Answer) -> Verdict {
    match answer {
        Answer::OtpSent => Verdict::Succeeded { outcome: Outcome::OtpSent, result: None },
        _ => mismatched(),
    }
}
