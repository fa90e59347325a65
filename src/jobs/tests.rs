//! Tests of every transition that the end of a call decides, as tables.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::{
    config::RetryPolicy,
    contract::{ErrorKind, Job, Lane, MerchantId, Outcome, ParseContext, parse_job},
    limits::Spender,
    xco::{Answer, Call, CallFailure, CallReport, FailureKind},
};
use serde_json::{Value, json};
use std::time::Duration;

const POLICY: RetryPolicy =
    RetryPolicy { base: Duration::from_millis(100), cap: Duration::from_secs(1), max_attempts: 3 };

fn job(kind: &str) -> Job {
    let contact = json!({"email": "a@example.com"});
    let with_code = json!({"email": "a@example.com", "verification_code": "123456"});
    let mut finalize = with_code.clone();
    finalize["customer_reference"] = json!("r");
    let args = match kind {
        "CheckUser" | "StartOtp" => contact,
        "VerifyOtp" => with_code,
        "CreateUser" => json!({"customer_reference": "r", "user": contact}),
        "FinalizeConsent" => finalize,
        other => panic!("{other}"),
    };
    let text = json!({"type": kind, "id": "j", "caller_id": "c", "args": args}).to_string();
    let context = ParseContext { allow_missing_caller_id: false, default_id: "d", generation: 0 };
    parse_job(text.as_bytes(), context).unwrap()
}

struct Case {
    job: Job,
    state: JobState,
    merchant: MerchantId,
    outage: bool,
    refusal: CredentialRefusal,
}

impl Case {
    fn new(kind: &str) -> Self {
        Self {
            job: job(kind),
            state: fresh(Lane::Interactive, 0),
            merchant: MerchantId::from_checked("m"),
            outage: false,
            refusal: CredentialRefusal::Own,
        }
    }

    fn next_call(&self) -> NextCall<'_> {
        next_call(&self.job, &self.state, CallInputs { merchant: &self.merchant })
    }

    fn end(&mut self, result: Result<Answer, CallFailure>) -> NextStep {
        let report = CallReport { result, calls: 1, elapsed: Duration::from_millis(7) };
        let circumstances =
            CallCircumstances { policy: POLICY, jitter: 0.5, outage: self.outage, refusal: self.refusal };
        decide(&self.job, &mut self.state, CallInputs { merchant: &self.merchant }, circumstances, report)
    }

    fn fail(&mut self, kind: FailureKind) -> NextStep {
        self.end(Err(CallFailure {
            kind,
            http_status: None,
            problem: None,
            retry_after: None,
            message: "said".to_owned(),
            remedy: None,
        }))
    }
}

const TYPES: [&str; 5] = ["CheckUser", "CreateUser", "StartOtp", "VerifyOtp", "FinalizeConsent"];

#[test]
fn a_refusal_is_final_and_keeps_a_letter_but_for_a_wrong_code() {
    for kind in TYPES {
        for (failure, error_kind) in [
            (FailureKind::Validation, ErrorKind::Validation),
            (FailureKind::Unauthorized, ErrorKind::Unauthorized),
            (FailureKind::Forbidden, ErrorKind::Forbidden),
            (FailureKind::NotFound, ErrorKind::NotFound),
            (FailureKind::InvalidCode, ErrorKind::InvalidCode),
            (FailureKind::Internal, ErrorKind::Internal),
        ] {
            let NextStep::Failed { error, dead_letter } = Case::new(kind).fail(failure) else {
                panic!("{kind} {failure:?}")
            };
            assert_eq!(error.kind, error_kind);
            assert_eq!(dead_letter, failure != FailureKind::InvalidCode);
        }
    }
}

#[test]
fn a_failure_without_effect_is_retried_until_the_attempts_are_spent() {
    for kind in TYPES {
        for (failure, error_kind) in
            [(FailureKind::Upstream, ErrorKind::Upstream), (FailureKind::Network, ErrorKind::Network)]
        {
            let mut case = Case::new(kind);
            for bound in [100, 200] {
                let NextStep::Retry { delay_ms, .. } = case.fail(failure) else { panic!("{kind}") };
                assert_eq!(delay_ms, bound / 2);
            }
            let NextStep::Failed { error, dead_letter: true } = case.fail(failure) else { panic!("{kind}") };
            assert_eq!((error.kind, error.retryable), (error_kind, true));
            assert_eq!((case.state.attempts, case.state.failures, case.state.xco_ms), (3, 3, 21));
        }
    }
}

#[test]
fn an_outage_costs_no_attempt() {
    for kind in TYPES {
        let mut case = Case::new(kind);
        case.outage = true;
        for _ in 0..20 {
            assert!(matches!(case.fail(FailureKind::Upstream), NextStep::Retry { .. }), "{kind}");
        }
        assert_eq!((case.state.attempts, case.state.failures), (20, 0));
    }
}

#[test]
fn a_wait_for_a_token_costs_no_attempt_and_is_as_long_as_was_asked() {
    for kind in TYPES {
        let mut case = Case::new(kind);
        for _ in 0..20 {
            let failure = CallFailure {
                kind: FailureKind::Network,
                http_status: None,
                problem: None,
                retry_after: Some(Duration::from_secs(60)),
                message: "said".to_owned(),
                remedy: None,
            };
            let NextStep::Retry { delay_ms: 60_000, .. } = case.end(Err(failure)) else { panic!("{kind}") };
        }
        assert_eq!((case.state.failures, case.state.doubt), (0, false));
    }
}

#[test]
fn a_refusal_of_everybody_costs_no_attempt_and_ends_nobody() {
    for kind in TYPES {
        for failure in [FailureKind::Unauthorized, FailureKind::Forbidden] {
            let mut case = Case::new(kind);
            case.refusal = CredentialRefusal::Everybodys;
            for _ in 0..20 {
                assert!(matches!(case.fail(failure), NextStep::Retry { .. }), "{kind}");
            }
            assert_eq!(case.state.failures, 0);
            // A wrong code always concerns only the customer.
            assert!(matches!(case.fail(FailureKind::InvalidCode), NextStep::Failed { .. }));
        }
        let mut case = Case::new(kind);
        case.refusal = CredentialRefusal::Suspected;
        for _ in 0..2 {
            assert!(matches!(case.fail(FailureKind::Unauthorized), NextStep::Retry { .. }), "{kind}");
        }
        let NextStep::Failed { error, .. } = case.fail(FailureKind::Unauthorized) else { panic!("{kind}") };
        assert_eq!((error.kind, case.state.failures), (ErrorKind::Unauthorized, 3));
        assert!(matches!(case.fail(FailureKind::Forbidden), NextStep::Failed { .. }));
    }
}

#[test]
fn one_attempt_is_one_call_even_in_an_outage() {
    for kind in TYPES {
        for (outage, refusal, failure) in [
            (true, CredentialRefusal::Own, FailureKind::Upstream),
            (true, CredentialRefusal::Own, FailureKind::Network),
            (true, CredentialRefusal::Everybodys, FailureKind::Unauthorized),
        ] {
            let mut case = Case::new(kind);
            case.job.max_attempts = Some(1);
            (case.outage, case.refusal) = (outage, refusal);
            assert!(matches!(case.fail(failure), NextStep::Failed { .. }), "{kind} {failure:?}");
        }
    }
}

#[test]
fn max_attempts_of_the_job_goes_before_its_types() {
    let mut case = Case::new("CheckUser");
    case.job.max_attempts = Some(1);
    assert!(matches!(case.fail(FailureKind::Upstream), NextStep::Failed { .. }));
}

#[test]
fn a_429_costs_no_attempt() {
    for kind in TYPES {
        let mut case = Case::new(kind);
        case.state.reserved = true;
        assert_eq!(case.fail(FailureKind::RateLimited), NextStep::Defer { retry_after: None });
        assert_eq!((case.state.attempts, case.state.failures, case.state.reserved), (1, 0, false));
    }
}

#[test]
fn an_unknown_effect_is_looked_at_by_type() {
    for failure in [FailureKind::Gateway, FailureKind::Timeout, FailureKind::Broken] {
        assert!(matches!(Case::new("CheckUser").fail(failure), NextStep::Retry { .. }));
        for kind in ["StartOtp", "VerifyOtp", "FinalizeConsent"] {
            let NextStep::Failed { error, dead_letter: true } = Case::new(kind).fail(failure) else { panic!("{kind}") };
            assert_eq!((error.kind, error.retryable), (ErrorKind::InDoubt, false), "{kind}");
        }
        let mut create = Case::new("CreateUser");
        assert!(matches!(create.fail(failure), NextStep::Retry { .. }));
        assert!(matches!(create.next_call().call, Call::CheckUser { .. }), "no second POST before a check");
    }
}

#[test]
fn a_lost_worker_is_an_unknown_effect() {
    for (kind, ends) in [("StartOtp", true), ("VerifyOtp", true), ("FinalizeConsent", true), ("CreateUser", false)] {
        let mut case = Case::new(kind);
        let error = lost(&case.job, &mut case.state, CallInputs { merchant: &case.merchant });
        assert_eq!(error.map(|error| error.kind), ends.then_some(ErrorKind::InDoubt), "{kind}");
        assert_eq!(case.state.attempts, 1);
    }
}

#[test]
fn a_create_in_doubt_is_checked_and_then_posted_again_or_done() {
    let mut case = Case::new("CreateUser");
    case.fail(FailureKind::Timeout);
    assert_eq!(case.next_call().repeat_safety, RepeatSafety::Safe);
    assert_eq!(case.end(Ok(Answer::Exists { exists: false, token_count: 0 })), NextStep::Continue);
    assert!(matches!(case.next_call().call, Call::CreateUser { .. }));
    case.fail(FailureKind::Broken);
    assert!(matches!(case.next_call().call, Call::CheckUser { .. }), "a second doubt is checked again");
    let done = case.end(Ok(Answer::Exists { exists: true, token_count: 0 }));
    let result = json!({"customer_reference": "r", "after_doubt": true});
    assert_eq!(done, NextStep::Succeeded { outcome: Outcome::AlreadyExists, result: Some(result.into()) });
}

#[test]
fn a_conflict_is_success_for_create_alone() {
    for kind in TYPES {
        let mut case = Case::new(kind);
        match case.fail(FailureKind::Conflict) {
            NextStep::Succeeded { outcome: Outcome::AlreadyExists, result: Some(result) } => {
                assert_eq!((kind, result.value()), ("CreateUser", json!({"customer_reference": "r"})));
            }
            NextStep::Failed { error, .. } => assert_eq!(error.kind, ErrorKind::Conflict),
            other => panic!("{kind} {other:?}"),
        }
    }
}

fn verified(case: &mut Case) {
    let answer =
        Answer::Verified { consent_challenge_id: "ch".to_owned(), user: Some(json!({"first_name": "A"}).into()) };
    assert_eq!(case.end(Ok(answer)), NextStep::Continue);
}

#[test]
fn a_consent_with_a_code_verifies_once() {
    let mut case = Case::new("FinalizeConsent");
    assert!(matches!(case.next_call().call, Call::VerifyOtp { .. }));
    verified(&mut case);
    for failure in [FailureKind::Upstream, FailureKind::Timeout] {
        let Call::CreateConsent { challenge_id: "ch", .. } = case.next_call().call else {
            panic!("the checkpoint is kept")
        };
        assert!(matches!(case.fail(failure), NextStep::Retry { .. }));
    }
    let result = json!({"consent_challenge_id": "ch", "user": {"first_name": "A"}});
    assert_eq!(
        case.end(Ok(Answer::Consented)),
        NextStep::Succeeded { outcome: Outcome::Consented, result: Some(result.into()) }
    );
}

#[test]
fn a_challenge_that_is_gone_is_not_found_at_first_and_in_doubt_after_one() {
    let mut case = Case::new("FinalizeConsent");
    verified(&mut case);
    let NextStep::Failed { error, .. } = case.fail(FailureKind::NotFound) else { panic!() };
    assert_eq!(error.kind, ErrorKind::NotFound);
    case.fail(FailureKind::Timeout);
    let NextStep::Failed { error, .. } = case.fail(FailureKind::NotFound) else { panic!() };
    assert_eq!(error.kind, ErrorKind::InDoubt);
}

#[test]
fn successes_have_the_contracts_results() {
    let cases: [(&str, Answer, Outcome, Option<Value>); 5] = [
        (
            "CheckUser",
            Answer::Exists { exists: true, token_count: 2 },
            Outcome::Exists,
            Some(json!({"exists": true, "token_count": 2})),
        ),
        (
            "CheckUser",
            Answer::Exists { exists: false, token_count: 0 },
            Outcome::Absent,
            Some(json!({"exists": false, "token_count": 0})),
        ),
        ("CreateUser", Answer::Created(json!({"x": 1}).into()), Outcome::Created, Some(json!({"x": 1}))),
        ("StartOtp", Answer::OtpSent, Outcome::OtpSent, None),
        (
            "VerifyOtp",
            Answer::Verified { consent_challenge_id: "ch".to_owned(), user: Some(json!({}).into()) },
            Outcome::Verified,
            Some(json!({"consent_challenge_id": "ch", "user": {}})),
        ),
    ];
    for (kind, answer, outcome, result) in cases {
        assert_eq!(
            Case::new(kind).end(Ok(answer)),
            NextStep::Succeeded { outcome, result: result.map(Into::into) },
            "{kind}"
        );
    }
}

#[test]
fn calls_spend_the_bucket_that_xco_counts_them_in() {
    for (kind, carries_a_caller) in
        [("CheckUser", true), ("CreateUser", false), ("StartOtp", true), ("VerifyOtp", true), ("FinalizeConsent", true)]
    {
        assert_eq!(matches!(Case::new(kind).next_call().spender, Spender::Caller(_)), carries_a_caller, "{kind}");
    }
    let mut consent = Case::new("FinalizeConsent");
    verified(&mut consent);
    assert_eq!(consent.next_call().spender, Spender::Client);
}
