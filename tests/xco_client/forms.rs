//! Answers in rare forms that are legal, or at least clear.

use super::{
    stub::{Reply, Stub},
    support::{check, create, verify},
};
use std::time::Duration;
use xco_worker::xco::{Answer, FailureKind};

const FOUND: Answer = Answer::Exists { exists: true, token_count: 2 };
const PROBLEM: &str = r#"{"title":"No","trace":12345678901234567890123}"#;

fn verified(id: &str) -> Reply {
    Reply::new(200, format!(r#"{{"consent_challenge_id":"{id}","user":{{"n":1.10}}}}"#))
}

#[tokio::test]
async fn packed_answers_by_any_of_gzips_names() {
    for name in ["gzip", "GZIP", "x-gzip", "identity, X-GZIP"] {
        let stub = Stub::new().await;
        stub.token(Reply::token(r#","expires_in":300"#).packed_as(name));
        stub.answer([verified("c").packed_as(name), Reply::new(400, PROBLEM).packed_as(name)]);
        let Ok(Answer::Verified { consent_challenge_id, .. }) = stub.call(&verify("1")).await.result else {
            panic!("{name}")
        };
        assert_eq!(consent_challenge_id, "c");
        let failure = stub.call(&check()).await.result.unwrap_err();
        assert_eq!(failure.problem.unwrap().get(), PROBLEM, "{name}");
        assert_eq!(stub.call(&check()).await.result, Ok(FOUND));
    }
}

#[tokio::test]
async fn what_is_unpacked_is_bounded_and_other_codings_are_named() {
    let stub = Stub::with(|config| config.max_response_bytes = 100_000).await;
    let bomb = format!(r#"{{"exists":true,"x":"{}"}}"#, " ".repeat(30_000_000));
    let other = Reply::new(200, "x").header("content-encoding", "BR");
    stub.answer([Reply::new(200, &bomb).packed_as("gzip"), Reply::new(400, &bomb).packed_as("GZIP"), other]);
    let failure = stub.call(&check()).await.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.message.contains("xco.max_response_bytes"), "{}", failure.message);
    let failure = stub.call(&check()).await.result.unwrap_err();
    assert_eq!((failure.kind, failure.problem), (FailureKind::Validation, None));
    let failure = stub.call(&check()).await.result.unwrap_err();
    assert!(failure.message.contains("packed as br"), "{}", failure.message);
    let stub = Stub::new().await;
    stub.token(Reply::token("").header("content-encoding", "zstd"));
    let failure = Stub::call(&stub, &check()).await.result.unwrap_err();
    assert!(failure.message.contains("packed as zstd"), "{}", failure.message);
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let stub = Stub::new().await;
    stub.token(Reply::token(r#","expires_in":300"#).marked());
    stub.answer([verified("c").marked(), Reply::new(422, PROBLEM).marked(), Reply::new(201, "\u{feff}{}")]);
    assert!(matches!(stub.call(&verify("1")).await.result, Ok(Answer::Verified { .. })));
    assert_eq!(stub.call(&check()).await.result.unwrap_err().problem.unwrap().get(), PROBLEM);
    assert!(matches!(stub.call(&create("c")).await.result, Ok(Answer::Created(_))));
}

#[tokio::test]
async fn a_created_user_is_passed_on_as_it_was() {
    let stub = Stub::new().await;
    let exact = r#"{"xco_id":12345678901234567890123,"n":[1e400,-0,1.10],"a":1,"a":2,"t":"é\u00e9"}"#;
    stub.answer([Reply::new(201, exact), Reply::new(201, "[".repeat(5_000) + &"]".repeat(5_000))]);
    let Ok(Answer::Created(answer)) = stub.call(&create("c")).await.result else { panic!() };
    assert_eq!(answer.get(), exact);
    let failure = stub.call(&create("c")).await.result.unwrap_err();
    assert!(failure.kind.effect_unknown() && failure.message.contains("nested"), "{failure:?}");
}

#[tokio::test]
async fn the_types_and_lives_of_tokens() {
    for (members, seconds) in [
        (r#","token_type":null,"expires_in":2.0"#, 2),
        (r#","token_type":"BearerToken","expires_in":"2.0""#, 2),
        (r#","token_type":"BEARER","expires_in":"2""#, 2),
        (r#","expires_in":2"#, 2),
        (r#","token_type":"bearer""#, 300),
        (r#","token_type":"","expires_in":1e400"#, 300),
    ] {
        let stub = Stub::new().await;
        stub.token(Reply::token(members));
        assert_eq!(stub.client.check_token().await, Ok(Duration::from_secs(seconds)), "{members}");
        assert_eq!(stub.call(&check()).await.result, Ok(FOUND), "{members}");
    }
    for (kind, said) in [("mac", "token_type mac"), ("DPoP", "token_type DPoP"), ("s3cret", "other than Bearer")] {
        let stub = Stub::with(|config| config.timeout = Duration::from_millis(300)).await;
        stub.token(Reply::token(&format!(r#","token_type":"{kind}""#)));
        let failure = stub.call(&check()).await.result.unwrap_err();
        assert!(failure.message.contains(said) && !failure.message.contains("s3cret"), "{}", failure.message);
    }
}

#[tokio::test]
async fn while_a_tokens_life_is_unknown_a_bare_401_to_verify_is_the_tokens() {
    let refused = || Reply::new(401, "{}");
    // (members of the token, whether it is cured, calls): the token was fetched before.
    for (members, cured, calls) in
        [("", true, 2), (r#","expires_in":"soon""#, true, 2), (r#","expires_in":300"#, false, 1)]
    {
        let stub = Stub::new().await;
        stub.token(Reply::token(members));
        assert_eq!(stub.call(&check()).await.result, Ok(FOUND));
        stub.answer([refused(), verified("c")]);
        let report = stub.call(&verify("1")).await;
        assert_eq!((report.result.is_ok(), report.calls), (cured, calls), "{members}");
        assert_eq!(stub.calls(), (1 + calls as usize, calls as usize), "{members}");
    }
    // A wrong code stays one. The new token is in no doubt, and neither is one that was fetched for this call.
    let stub = Stub::new().await;
    stub.token(Reply::token(""));
    stub.answer([refused()]);
    let report = stub.call(&verify("1")).await;
    assert_eq!((report.result.unwrap_err().kind, report.calls), (FailureKind::InvalidCode, 1));
    stub.answer([refused(), refused()]);
    let report = stub.call(&verify("1")).await;
    assert_eq!((report.result.unwrap_err().kind, report.calls), (FailureKind::InvalidCode, 2));
    assert_eq!(stub.calls(), (3, 2));
    // If the answer mentions the code, nothing is in doubt.
    stub.answer([Reply::new(401, r#"{"error":"invalid_otp"}"#)]);
    let report = stub.call(&verify("1")).await;
    assert_eq!((report.result.unwrap_err().kind, report.calls), (FailureKind::InvalidCode, 1));
}
