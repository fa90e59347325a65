//! The access token.

use super::{
    gate::Gate,
    support::{CALLER, EMAIL, World, check, config, start, verify},
};
use futures::future::join_all;
use std::time::Duration;
use xco_worker::{
    config::TokenAuth,
    sandbox::{EffectKind, Fault, FaultKind, Route},
    xco::{Answer, FailureKind, XcoClient},
};

/// Lets the client's clock jump. The simulator's clock does not.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn fifty_callers_one_token() {
    let world = World::new().await;
    let job = check();
    let reports = join_all((0..50).map(|_| world.call(&job))).await;
    assert!(reports.iter().all(|report| report.result.is_ok() && report.calls == 1));
    assert_eq!(world.token_calls(), 1);
}

#[tokio::test]
async fn basic_authentication_and_odd_secrets() {
    let odd = "a:b%c d+é&=";
    for auth in [TokenAuth::Basic, TokenAuth::Body] {
        let world = World::with(
            |config| config.client_secret = odd.to_owned(),
            |config| {
                config.client_secret = Some(odd.into());
                config.token_auth = auth;
            },
        )
        .await;
        world.ok(&check()).await;
    }
}

#[tokio::test]
async fn refreshed_ahead_of_its_end() {
    let world = World::new().await;
    world.ok(&check()).await;
    pass(200).await;
    world.ok(&check()).await;
    assert_eq!(world.token_calls(), 1);
    pass(50).await;
    let job = check();
    let reports = join_all((0..20).map(|_| world.call(&job))).await;
    assert!(reports.iter().all(|report| report.result.is_ok() && report.calls == 1));
    assert_eq!(world.token_calls(), 2);
    pass(301).await;
    world.ok(&check()).await;
    assert_eq!(world.token_calls(), 3);
}

#[tokio::test]
async fn while_one_refreshes_the_others_go_on() {
    let world = World::with(|_| {}, |config| config.timeout = Duration::from_secs(2)).await;
    world.ok(&check()).await;
    pass(250).await;
    world.sandbox.order(Fault::hang().on(Route::Token));
    let client = world.client.clone();
    let refreshing = tokio::spawn(async move { client.check_token().await });
    // Until the endpoint is asked, which will never answer.
    world.sandbox.wait_until(|_| world.token_calls() == 2).await;
    let report = world.call(&check()).await;
    assert!(report.result.is_ok());
    assert!(!refreshing.is_finished());
    // The caller that asked continues with the current token after a quarter of its time.
    assert!(refreshing.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let world = World::new().await.known();
    world.ok(&start()).await;
    world.sandbox.revoke_tokens();
    let job = check();
    let reports = join_all((0..20).map(|_| world.call(&job))).await;
    assert!(reports.iter().all(|report| report.result.is_ok() && report.calls <= 2));
    assert!(reports.iter().any(|report| report.calls == 2));
    assert_eq!(world.token_calls(), 2);
    // Also for verify, if the answer says that the token is the cause.
    world.sandbox.revoke_tokens();
    let code = world.sandbox.otp(EMAIL).unwrap();
    let report = world.call(&verify(&code)).await;
    assert!(matches!(report.result, Ok(Answer::Verified { .. })));
    assert_eq!(report.calls, 2);
    assert_eq!(world.sandbox.effects_on(EffectKind::CodeSpent, EMAIL), 1);
    assert_eq!(world.sandbox.effects_on(EffectKind::CodeTried, EMAIL), 0);
}

/// Both were issued, and revoked, before the newer one arrived. Trying it would cost the call its second chance.
#[tokio::test]
async fn a_token_under_way_while_another_is_refused_is_not_used() {
    let mut world = World::new().await;
    let mut gate = Gate::before(&world.sandbox.token_url()).await;
    let mut config = config(&world.sandbox);
    config.token_url = Some(gate.url());
    world.client = XcoClient::new(&config).unwrap();
    world.ok(&check()).await;
    pass(250).await;
    gate.close();
    let client = world.client.clone();
    let refreshing = tokio::spawn(async move { client.check_token().await });
    gate.holds_one().await;
    world.sandbox.revoke_tokens();
    let seen = world.sandbox.stats().calls;
    let job = check();
    let (report, ()) = tokio::join!(world.call(&job), async {
        world.sandbox.wait_for_calls(seen + 1).await;
        gate.open();
    });
    assert!(report.result.is_ok(), "{report:?}");
    assert_eq!((report.calls, world.token_calls()), (2, 3));
    refreshing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_401_that_a_new_token_does_not_cure() {
    let world = World::new().await;
    world.sandbox.order(Fault::status(401).times(2));
    let (failure, calls) = world.fails(&check()).await;
    assert_eq!((failure.kind, calls), (FailureKind::Unauthorized, 2));
    assert_eq!(world.token_calls(), 2);
    world.ok(&check()).await;
    assert_eq!(world.token_calls(), 2);
}

#[tokio::test]
async fn an_endpoint_that_comes_back() {
    let world = World::new().await;
    for fault in [Fault::status(503).times(2), Fault::reset(), Fault::new(FaultKind::Garbage)] {
        world.sandbox.order(fault.on(Route::Token));
    }
    let report = world.call(&check()).await;
    assert!(report.result.is_ok());
    assert_eq!((report.calls, world.token_calls()), (1, 5));
}

#[tokio::test]
async fn an_endpoint_that_is_down_means_never_sent() {
    let world = World::with(|_| {}, |config| config.timeout = Duration::from_millis(600)).await;
    world.sandbox.order(Fault::status(503).on(Route::Token).always());
    let job = start();
    let reports = join_all((0..10).map(|_| world.call(&job))).await;
    for report in reports {
        assert_eq!(report.calls, 0);
        assert_eq!(report.result.unwrap_err().kind, FailureKind::Network);
    }
    assert_eq!(world.sandbox.stats().calls, 0);
    world.sandbox.clear_faults();
    world.ok(&check()).await;
}

#[tokio::test]
async fn a_wrong_secret_is_named_not_shown_and_not_hammered() {
    let world = World::with(|_| {}, |config| config.client_secret = Some("hunter2".into())).await;
    let job = check();
    for report in join_all((0..10).map(|_| world.call(&job))).await {
        let failure = report.result.unwrap_err();
        assert_eq!((failure.kind, report.calls), (FailureKind::Network, 0));
        assert!(failure.message.contains("xco.client_secret"), "{}", failure.message);
        assert!(!failure.message.contains("hunter2"));
    }
    assert_eq!(world.token_calls(), 1);
}

/// Meanwhile a caller that needs a token gets the remaining wait at once.
#[tokio::test]
async fn an_endpoint_that_asks_for_time_is_left_alone_that_long() {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    let date = later.strftime("%A, %d-%b-%y %H:%M:%S GMT").to_string();
    for (status, value) in [(429, "60"), (503, "60"), (429, date.as_str())] {
        let world = World::new().await;
        world.sandbox.order(Fault::status(status).retry_after(value).on(Route::Token));
        let job = check();
        for _ in 0..3 {
            for report in join_all((0..20).map(|_| world.call(&job))).await {
                let failure = report.result.unwrap_err();
                assert_eq!((failure.kind, report.calls), (FailureKind::Network, 0));
                assert!(failure.awaits_token());
                let left = failure.retry_after.unwrap().as_secs_f64();
                assert!((50.0..=60.0).contains(&left), "{status} {value}: {left}");
            }
            assert_eq!(world.token_calls(), 1, "{status} {value}");
        }
        pass(61).await;
        world.ok(&check()).await;
        assert_eq!(world.token_calls(), 2);
    }
}

#[tokio::test]
async fn a_wait_that_nobody_measured_grows_and_ends() {
    let wrong = Fault::new(FaultKind::Status { status: 401, retry_after: None, body: None });
    for fault in [Fault::status(429), wrong] {
        let world = World::new().await;
        world.sandbox.order(fault.on(Route::Token).always());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let failure = world.fails(&check()).await.0;
            let left = failure.retry_after.unwrap();
            waits.push(left.as_secs() + u64::from(left.subsec_nanos() > 0));
            pass(waits[waits.len() - 1] + 1).await;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(world.token_calls(), 8);
        world.sandbox.clear_faults();
        world.ok(&check()).await;
        assert_eq!(world.token_calls(), 9);
    }
}

#[tokio::test]
async fn with_a_token_in_hand_an_endpoint_that_asks_for_time_delays_nobody() {
    let world = World::new().await;
    world.ok(&check()).await;
    world.sandbox.order(Fault::status(429).retry_after("40").on(Route::Token).always());
    pass(250).await;
    let job = check();
    for _ in 0..3 {
        for report in join_all((0..10).map(|_| world.call(&job))).await {
            assert!(report.result.is_ok());
        }
        pass(3).await;
    }
    assert_eq!(world.token_calls(), 2);
}

#[tokio::test]
async fn nothing_secret_is_in_debug() {
    let world = World::new().await;
    world.ok(&check()).await;
    let client = XcoClient::new(&config(&world.sandbox)).unwrap();
    let text = format!("{client:?} {:?}", world.call(&check()).await);
    assert!(!text.contains("sandbox-secret") && !text.contains(EMAIL) && !text.contains(CALLER), "{text}");
}
