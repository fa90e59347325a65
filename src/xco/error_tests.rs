#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use FailureKind::{
    Conflict, Forbidden, Gateway, InvalidCode, NotFound, RateLimited, Unauthorized, Upstream, Validation,
};
use Route::{Consent, Create, Exists, Start, Verify};
use serde_json::json;

fn policy() -> Policy {
    Policy {
        already_exists_types: vec!["https://api.purse.eu/problems/user-already-exists".to_owned()],
        invalid_code_statuses: vec![400, 401, 403, 404, 422],
    }
}

fn classify_status(route: Route, status: u16, problem: Option<&Value>) -> AnswerMeaning {
    let answer = ErrorAnswer { route, status, problem, www_authenticate: None, token_expired: false };
    classify(answer, &policy())
}

#[test]
fn statuses_of_the_four_plain_calls() {
    for route in [Exists, Create, Start, Consent] {
        for (status, kind) in [
            (400, Validation),
            (401, Unauthorized),
            (402, Validation),
            (403, Forbidden),
            (404, NotFound),
            (405, Validation),
            (408, Upstream),
            (409, Conflict),
            (421, Upstream),
            (422, Validation),
            (425, Upstream),
            (429, RateLimited),
            (451, Validation),
            (500, Upstream),
            (501, Gateway),
            (502, Gateway),
            (503, Upstream),
            (504, Gateway),
            (520, Gateway),
            (522, Gateway),
            (524, Gateway),
            (599, Gateway),
            (101, Gateway),
            (302, Gateway),
            (303, Gateway),
            (307, Gateway),
            (999, Gateway),
        ] {
            let verdict = classify_status(route, status, None);
            assert_eq!(verdict, AnswerMeaning { kind, token: status == 401 }, "{route:?} {status}");
        }
    }
}

#[test]
fn every_status_has_a_verdict_and_what_xco_does_not_answer_is_in_doubt() {
    for route in [Exists, Create, Start, Verify, Consent] {
        for status in (100..=999).filter(|status| !(200..300).contains(status)) {
            let verdict = classify_status(route, status, None);
            let xcos = (400..500).contains(&status) || matches!(status, 500 | 503);
            assert_eq!(verdict.kind.effect_unknown(), !xcos, "{route:?} {status}");
            assert_eq!(verdict.kind == RateLimited, status == 429, "{route:?} {status}");
        }
    }
}

#[test]
fn a_listed_type_means_an_existing_account_at_create_only() {
    let exists = json!({"type": "https://api.purse.eu/problems/user-already-exists"});
    let other = json!({"type": "https://api.purse.eu/problems/validation-error"});
    for (route, status, problem, kind) in [
        (Create, 400, &exists, Conflict),
        (Create, 422, &exists, Conflict),
        (Create, 409, &other, Conflict),
        (Create, 400, &other, Validation),
        (Create, 403, &exists, Forbidden),
        (Consent, 400, &exists, Validation),
    ] {
        assert_eq!(classify_status(route, status, Some(problem)).kind, kind, "{route:?} {status} {problem}");
    }
}

#[test]
fn verify_without_words_asks_for_the_code_again() {
    for status in [400, 401, 403, 404, 422] {
        assert_eq!(
            classify_status(Verify, status, None),
            AnswerMeaning { kind: InvalidCode, token: false },
            "{status}"
        );
    }
    for (status, kind) in [(409, Conflict), (429, RateLimited), (500, Upstream), (502, Gateway), (408, Upstream)] {
        assert_eq!(classify_status(Verify, status, None).kind, kind, "{status}");
    }
}

#[test]
fn verify_with_words() {
    let of = |name: &str| json!({"type": format!("https://api.purse.eu/problems/{name}")});
    for (status, problem, kind) in [
        (401, of("invalid-token"), Unauthorized),
        (401, json!({"error": "token_expired"}), Unauthorized),
        (401, of("unauthorized"), InvalidCode),
        (401, of("invalid-otp"), InvalidCode),
        (401, of("otp-token-expired"), InvalidCode),
        (403, of("origin-not-allowed"), Forbidden),
        (403, of("missing-permission"), Forbidden),
        (403, of("forbidden"), InvalidCode),
        (403, of("wrong-verification-code"), InvalidCode),
        (404, of("merchant-not-found"), NotFound),
        (404, of("user-not-found"), NotFound),
        (404, of("not-found"), InvalidCode),
        (400, of("validation-error"), InvalidCode),
        (400, json!({"errors": [{"pointer": "/email", "detail": "x"}]}), Validation),
        (422, json!({"errors": [{"pointer": "/email"}, {"pointer": "/verification_code"}]}), InvalidCode),
    ] {
        let verdict = classify_status(Verify, status, Some(&problem));
        assert_eq!(verdict, AnswerMeaning { kind, token: kind == Unauthorized }, "{status} {problem}");
    }
}

#[test]
fn a_401_at_verify_is_the_tokens_only_where_something_says_so() {
    let base = ErrorAnswer { route: Verify, status: 401, problem: None, www_authenticate: None, token_expired: false };
    let token = |answer| classify(answer, &policy()).token;
    assert!(!token(base));
    assert!(!token(ErrorAnswer { www_authenticate: Some("Bearer realm=\"xco\""), ..base }));
    assert!(token(ErrorAnswer { www_authenticate: Some("Bearer error=\"invalid_token\""), ..base }));
    assert!(token(ErrorAnswer { token_expired: true, ..base }));
    // Where 401 is not configured as the status of a wrong code, it is about the token, as for any other call.
    let policy = Policy { invalid_code_statuses: vec![400], ..Policy::default() };
    assert!(classify(base, &policy).token);
    assert_eq!(classify(ErrorAnswer { status: 404, ..base }, &policy).kind, NotFound);
}

#[test]
fn messages_hold_status_and_title_only() {
    let problem = json!({"title": "Validation error", "detail": "john@example.com is invalid"});
    assert_eq!(message(Create, 400, Some(&problem)), "XCO answered 400 to the user's creation: Validation error");
    assert_eq!(message(Exists, 503, None), "XCO answered 503 to the user check");
    assert!(message(Exists, 302, None).contains("xco.base_url"));
}
