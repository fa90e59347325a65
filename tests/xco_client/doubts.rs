//! Broken exchanges: was the request sent, and did it take effect?

use super::support::{EMAIL, World, call_of, check, config, create, start, verify};
use serde_json::json;
use std::{net::TcpListener, time::Duration};
use xco_worker::{
    config::XcoConfig,
    sandbox::{EffectKind, Fault, FaultKind, Route, Sandbox, SandboxConfig},
    xco::{Answer, CallContext, FailureKind, XcoApi, XcoClient},
};

fn hasty(config: &mut XcoConfig) {
    config.timeout = Duration::from_millis(400);
}

#[tokio::test]
async fn a_reset_is_in_doubt_and_not_repeated() {
    let world = World::new().await.known();
    for (fault, effects) in [(Fault::reset(), 0), (Fault::reset().after_effect(), 1)] {
        world.sandbox.order(fault);
        let (failure, calls) = world.fails(&start()).await;
        assert_eq!((failure.kind, failure.http_status, calls), (FailureKind::Broken, None, 1));
        assert!(failure.kind.effect_unknown());
        assert_eq!(world.sandbox.effects_on(EffectKind::CodeSent, EMAIL), effects);
    }
    assert_eq!(world.sandbox.calls_of(Route::Start).len(), 2);
}

#[tokio::test]
async fn no_answer_in_time_is_in_doubt() {
    let world = World::with(|_| {}, hasty).await.known();
    for (fault, effects) in [(Fault::hang(), 0), (Fault::hang().after_effect(), 1)] {
        world.sandbox.order(fault);
        let (failure, calls) = world.fails(&start()).await;
        assert_eq!((failure.kind, calls), (FailureKind::Timeout, 1));
        assert_eq!(world.sandbox.effects_on(EffectKind::CodeSent, EMAIL), effects);
    }
    // The simulator notices that the client has disconnected.
    world.sandbox.wait_until(|stats| stats.answered(Route::Start, 0) == 2).await;
}

#[tokio::test]
async fn what_something_in_between_answers_is_in_doubt() {
    let world = World::new().await.known();
    for status in [501, 502, 504, 520, 522, 524, 303] {
        world.sandbox.order(Fault::status(status).after_effect());
        world.fails_as(&start(), FailureKind::Gateway).await;
    }
    assert_eq!(world.sandbox.effects_on(EffectKind::CodeSent, EMAIL), 7);
}

#[tokio::test]
async fn an_answer_that_breaks_off() {
    let world = World::new().await;
    world.sandbox.order(Fault::new(FaultKind::Truncate));
    assert_eq!(world.fails_as(&create("c"), FailureKind::Broken).await.http_status, Some(201));
    assert_eq!(world.sandbox.effects_on(EffectKind::UserCreated, "c"), 1);
    // Where the status is enough, the body does not matter.
    world.sandbox.order(Fault::new(FaultKind::Truncate));
    assert_eq!(world.ok(&start()).await, Answer::OtpSent);
}

#[tokio::test]
async fn an_answer_that_cannot_be_understood() {
    let world = World::new().await;
    world.sandbox.order(Fault::new(FaultKind::Garbage));
    assert_eq!(world.fails_as(&create("c"), FailureKind::Timeout).await.http_status, Some(201));
    world.sandbox.order(Fault::status(200).body(json!({"exists": "yes"})));
    world.fails_as(&check(), FailureKind::Timeout).await;
    world.ok(&start()).await;
    let code = world.sandbox.otp(EMAIL).unwrap();
    world.sandbox.order(Fault::status(200).body(json!({"user": {}})));
    world.fails_as(&verify(&code), FailureKind::Timeout).await;
}

#[tokio::test]
async fn bodies_are_bounded() {
    let world = World::with(|_| {}, |config| config.max_response_bytes = 1000).await;
    world.sandbox.order(Fault::status(200).body(json!({"exists": true, "x": "y".repeat(2000)})));
    world.fails_as(&check(), FailureKind::Timeout).await;
    // Of an error answer only the document is lost.
    world.sandbox.order(Fault::status(400).body(json!({"title": "y".repeat(2000)})));
    assert_eq!(world.fails_as(&check(), FailureKind::Validation).await.problem, None);
}

#[tokio::test]
async fn nobody_there_means_never_sent() {
    let sandbox = Sandbox::start(SandboxConfig::default()).await.unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&sandbox);
    config.base_url = Some(format!("http://{}", free.local_addr().unwrap()).parse().unwrap());
    drop(free);
    let client = XcoClient::new(&config).unwrap();
    let report = client.call(call_of(&start()), CallContext::default()).await;
    assert_eq!((report.result.unwrap_err().kind, report.calls), (FailureKind::Network, 1));
}

#[tokio::test]
async fn time_that_ends_before_the_connection_stands_means_never_sent() {
    let sandbox = Sandbox::start(SandboxConfig::default()).await.unwrap();
    // Accepts connections (in the kernel) and never answers the TLS handshake.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&sandbox);
    config.base_url = Some(format!("https://{}", silent.local_addr().unwrap()).parse().unwrap());
    hasty(&mut config);
    let (job, client) = (start(), XcoClient::new(&config).unwrap());
    let failure = client.call(call_of(&job), CallContext::default()).await.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network, "{failure:?}");
    config.connect_timeout = Duration::from_millis(100);
    let client = XcoClient::new(&config).unwrap();
    let failure = client.call(call_of(&job), CallContext::default()).await.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network, "{failure:?}");
}
