//! `FinalizeConsent`: links an existing XCO user to the merchant; with a code, verifies first.
//!
//! The challenge lies in the job's state between the two steps, so a retry of the consent never spends the code again.

use super::{Checkpoint, Doubt, JobState, Plan, Verdict, outcome::mismatched, verify_otp};
use crate::{
    contract::{ConsentProof, CustomerReference, ErrorKind, Job, JobError, JobType, JsonText, MerchantId, Outcome},
    limits::Spender,
    xco::{Answer, Call, CallFailure, FailureKind},
};
use serde::Serialize;

#[derive(Serialize)]
struct ConsentedResult<'a> {
    consent_challenge_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a JsonText>,
}

pub(super) fn plan<'a>(
    job: &'a Job,
    state: &'a JobState,
    merchant: &'a MerchantId,
    customer_reference: &'a CustomerReference,
    proof: &'a ConsentProof,
) -> Plan<'a> {
    let challenge_id = match (proof, &state.checkpoint) {
        (_, Some(checkpoint)) => checkpoint.challenge_id.as_str(),
        (ConsentProof::Challenge(challenge_id), None) => challenge_id.as_str(),
        (ConsentProof::Code { contact, code }, None) => return verify_otp::plan(job, merchant, contact, code),
    };
    Plan {
        call: Call::CreateConsent { merchant, customer_reference, challenge_id },
        spender: Spender::Client,
        rate_class: JobType::FinalizeConsent,
        doubt: Doubt::Repeat,
    }
}

pub(super) fn answered(state: &mut JobState, proof: &ConsentProof, answer: Answer) -> Verdict {
    match answer {
        Answer::Verified { consent_challenge_id, user } => {
            state.checkpoint = Some(Checkpoint { challenge_id: consent_challenge_id, user });
            Verdict::Continue
        }
        Answer::Consented => {
            let result = match (&state.checkpoint, proof) {
                (Some(checkpoint), _) => Some((checkpoint.challenge_id.as_str(), checkpoint.user.as_ref())),
                (None, ConsentProof::Challenge(challenge_id)) => Some((challenge_id.as_str(), None)),
                (None, ConsentProof::Code { .. }) => None,
            };
            let result = result.map(|(consent_challenge_id, user)| ConsentedResult { consent_challenge_id, user });
            Verdict::Succeeded { outcome: Outcome::Consented, result: Some(JsonText::of(&result)) }
        }
        _ => mismatched(),
    }
}

/// A challenge is consumed by the consent it brings about: "not found" after a doubt may well mean "done".
pub(super) fn failed(state: &JobState, failure: &CallFailure) -> Option<Verdict> {
    let consumed = matches!(failure.kind, FailureKind::NotFound | FailureKind::Conflict);
    (state.doubt && consumed).then(|| Verdict::Failed {
        error: JobError {
            kind: ErrorKind::InDoubt,
            message: "the challenge is gone after a call whose effect is unknown: the consent may have been given"
                .into(),
            http_status: failure.http_status,
            problem: failure.problem.clone(),
            fields: None,
            retryable: false,
        },
        dead_letter: true,
    })
}
