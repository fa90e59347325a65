//! `FinalizeConsent`: links an existing XCO user to the merchant. If the job carries a code, it is verified first.
//!
//! Between the two steps, the challenge is stored in the job's state, so that a retry of the consent never uses the
//! code again.

use super::{Checkpoint, JobState, NextCall, NextStep, RepeatSafety, next_step::mismatched, verify_otp};
use crate::{
    contract::{ConsentProof, CustomerReference, Job, JobType, JsonText, MerchantId, Outcome},
    limits::Spender,
    xco::{Answer, Call},
};
use serde::Serialize;

#[derive(Serialize)]
struct ConsentedResult<'a> {
    consent_challenge_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a JsonText>,
}

pub(super) fn next_call<'a>(
    job: &'a Job,
    state: &'a JobState,
    merchant: &'a MerchantId,
    customer_reference: &'a CustomerReference,
    proof: &'a ConsentProof,
) -> NextCall<'a> {
    let challenge_id = match (proof, &state.checkpoint) {
        (_, Some(checkpoint)) => checkpoint.challenge_id.as_str(),
        (ConsentProof::Challenge(challenge_id), None) => challenge_id.as_str(),
        (ConsentProof::Code { contact, code }, None) => return verify_otp::next_call(job, merchant, contact, code),
    };
    NextCall {
        call: Call::CreateConsent { merchant, customer_reference, challenge_id },
        spender: Spender::Client,
        rate_class: JobType::FinalizeConsent,
        repeat_safety: RepeatSafety::RepeatThenReport,
    }
}

pub(super) fn answered(state: &mut JobState, proof: &ConsentProof, answer: Answer) -> NextStep {
    match answer {
        Answer::Verified { consent_challenge_id, user } => {
            state.checkpoint = Some(Checkpoint { challenge_id: consent_challenge_id, user });
            NextStep::Continue
        }
        Answer::Consented => {
            let result = match (&state.checkpoint, proof) {
                (Some(checkpoint), _) => Some((checkpoint.challenge_id.as_str(), checkpoint.user.as_ref())),
                (None, ConsentProof::Challenge(challenge_id)) => Some((challenge_id.as_str(), None)),
                (None, ConsentProof::Code { .. }) => None,
            };
            let result = result.map(|(consent_challenge_id, user)| ConsentedResult { consent_challenge_id, user });
            NextStep::Succeeded { outcome: Outcome::Consented, result: Some(JsonText::of(&result)) }
        }
        _ => mismatched(),
    }
}
