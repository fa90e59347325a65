//! Answers that refuse.

use super::{
    stub::{Reply, Stub},
    support::{EMAIL, World, check, config, consent, create, start, verify},
};
use serde_json::json;
use std::time::Duration;
use xco_worker::{
    sandbox::{ConflictStyle, EffectKind, Fault, Route, Sandbox, SandboxConfig, SandboxLimit},
    xco::{FailureKind, XcoClient},
};

#[tokio::test]
async fn problem_documents_are_passed_through_and_messages_hold_no_detail() {
    let world = World::new().await;
    let problem = json!({
        "type": "https://api.purse.eu/problems/validation-error", "title": "Validation error", "status": 400,
        "detail": "john@example.com is taken", "errors": [{"detail": "invalid", "pointer": "/user/email"}],
    });
    world.sandbox.order(Fault::status(400).body(problem.clone()));
    let (failure, calls) = world.fails(&create("c")).await;
    assert_eq!((failure.kind, failure.http_status, calls), (FailureKind::Validation, Some(400), 1));
    assert_eq!(failure.problem.unwrap().value(), problem);
    assert!(failure.message.contains("Validation error") && !failure.message.contains("john"), "{}", failure.message);
}

#[tokio::test]
async fn conflicts_in_both_styles() {
    let world = World::new().await.known();
    assert_eq!(world.fails_as(&create("c"), FailureKind::Conflict).await.http_status, Some(409));

    let kind = "https://api.purse.eu/problems/account-exists";
    let style = |config: &mut SandboxConfig| config.conflict = ConflictStyle::BadRequest(kind.to_owned());
    let world = World::with(style, |config| config.already_exists_types = vec![kind.to_owned()]).await.known();
    assert_eq!(world.fails_as(&create("c"), FailureKind::Conflict).await.http_status, Some(400));
    let world = World::with(style, |_| {}).await.known();
    world.fails_as(&create("c"), FailureKind::Validation).await;
}

#[tokio::test]
async fn a_wrong_code_of_every_status_costs_one_attempt_and_no_token() {
    for status in [400, 401, 403, 404, 422] {
        let world = World::with(|config| config.wrong_code_status = status, |_| {}).await.known();
        world.ok(&start()).await;
        let (failure, calls) = world.fails(&verify("no-code")).await;
        assert_eq!((failure.kind, failure.http_status, calls), (FailureKind::InvalidCode, Some(status), 1));
        assert_eq!(world.sandbox.effects_on(EffectKind::CodeTried, EMAIL), 1, "{status}");
        assert_eq!(world.token_calls(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_echoed_code_is_masked() {
    let world = World::with(|config| config.echo_code = true, |_| {}).await.known();
    world.ok(&start()).await;
    let failure = world.fails_as(&verify("918273"), FailureKind::InvalidCode).await;
    let problem = failure.problem.as_ref().unwrap().get();
    assert!(problem.contains("***") && !problem.contains("918273"), "{problem}");
    assert!(!format!("{failure:?}").contains("918273"), "{failure:?}");
}

#[tokio::test]
async fn an_unknown_challenge_is_not_found() {
    let world = World::new().await.known();
    world.fails_as(&consent("c", "2f0b6e0e-8d5b-4b3a-9f0e-2f0b6e0e8d5b"), FailureKind::NotFound).await;
}

#[tokio::test]
async fn retry_after_in_both_forms() {
    let world = World::new().await;
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&later).unwrap();
    for (status, value, between) in [
        (429, "7", Some((7, 7))),
        (503, "7", Some((7, 7))),
        (429, date.as_str(), Some((88, 91))),
        (429, "9999999", Some((86_400, 86_400))),
        (429, "soon", None),
        (500, "7", None),
    ] {
        world.sandbox.order(Fault::status(status).retry_after(value));
        let (failure, _) = world.fails(&check()).await;
        match between {
            None => assert_eq!(failure.retry_after, None, "{value}"),
            Some((least, most)) => {
                let delay = failure.retry_after.unwrap().as_secs();
                assert!((least..=most).contains(&delay), "{value}: {delay}");
            }
        }
    }
}

#[tokio::test]
async fn limits_are_each_callers_own() {
    let limit = Some(SandboxLimit { per_second: 0.01, burst: 1 });
    let world = World::with(|config| config.caller_limit = limit, |_| {}).await;
    world.ok(&check()).await;
    let failure = world.fails_as(&check(), FailureKind::RateLimited).await;
    assert_eq!(failure.retry_after, Some(Duration::from_secs(100)));
    world.ok(&create("callers do not count here")).await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::new().await;
    world.sandbox.order(Fault::status(302));
    let failure = world.fails_as(&check(), FailureKind::Gateway).await;
    assert!(failure.message.contains("xco.base_url"));
    assert_eq!(world.sandbox.calls_of(Route::Exists).len(), 1);
    let stub = Stub::new().await;
    for status in [301, 302, 303, 307, 308] {
        stub.answer([Reply::new(status, "").header("location", "/elsewhere")]);
        let report = stub.call(&start()).await;
        assert_eq!((report.result.unwrap_err().kind, report.calls), (FailureKind::Gateway, 1), "{status}");
    }
    assert_eq!(stub.calls().0, 5);
}

#[tokio::test]
async fn plain_http_beyond_loopback_is_refused() {
    let sandbox = Sandbox::start(SandboxConfig::default()).await.unwrap();
    let mut config = config(&sandbox);
    config.base_url = Some("http://xco.example".parse().unwrap());
    let error = XcoClient::new(&config).unwrap_err();
    assert_eq!(error.0.iter().map(|fault| fault.key).collect::<Vec<_>>(), ["xco.base_url"]);
    config.allow_insecure_http = true;
    assert!(XcoClient::new(&config).is_ok());
}
