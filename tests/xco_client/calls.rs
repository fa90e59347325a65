//! The five calls, without faults.

use super::support::{CALLER, EMAIL, MERCHANT, World, call_of, check, config, consent, create, job, start, verify};
use serde_json::json;
use xco_worker::{
    sandbox::{EffectKind, Route, Sandbox, SandboxConfig},
    xco::{Answer, CallContext, FailureKind, XcoApi, XcoClient},
};

#[tokio::test]
async fn a_new_customer() {
    let world = World::new().await;
    assert_eq!(world.ok(&check()).await, Answer::Exists { exists: false, token_count: 0 });
    let Answer::Created(answer) = world.ok(&create("customer_1")).await else { panic!() };
    let answer = answer.value();
    assert_eq!(answer["customer_reference"], "customer_1");
    assert_eq!(answer["user"]["first_name"], "John");
    assert_eq!(world.ok(&check()).await, Answer::Exists { exists: true, token_count: 0 });
    assert_eq!(world.sandbox.effects_on(EffectKind::UserCreated, "customer_1"), 1);
}

#[tokio::test]
async fn a_known_customer() {
    let world = World::new().await.known();
    assert_eq!(world.ok(&check()).await, Answer::Exists { exists: true, token_count: 2 });
    assert_eq!(world.ok(&start()).await, Answer::OtpSent);
    let code = world.sandbox.otp(EMAIL).unwrap();
    let Answer::Verified { consent_challenge_id, user } = world.ok(&verify(&code)).await else { panic!() };
    assert_eq!(user.unwrap().value()["email"], EMAIL);
    // One path segment, whatever it contains.
    let reference = "a/b %2F é?#+";
    assert_eq!(world.ok(&consent(reference, &consent_challenge_id)).await, Answer::Consented);
    assert_eq!(world.sandbox.effects_on(EffectKind::Consented, reference), 1);
    assert_eq!(world.token_calls(), 1);
}

#[tokio::test]
async fn callers_go_where_they_belong() {
    let world = World::new().await;
    let phone = job(&json!({
        "type": "CheckUser", "args": {"phone_number": "+33612345678"}, "caller_id": "a b+c&d=é",
        "merchant_id": MERCHANT,
    }));
    world.ok(&phone).await;
    // The simulator refuses a caller_id as an unknown property of a create.
    world.ok(&create("c")).await;
    world.ok(&start()).await;
    let calls = world.sandbox.calls();
    let of = |route| calls.iter().find(|call| call.route == route).unwrap();
    assert_eq!(of(Route::Exists).caller_id.as_deref(), Some("a b+c&d=é"));
    assert_eq!(of(Route::Exists).key.as_deref(), Some("+33612345678"));
    assert_eq!(of(Route::Create).caller_id, None);
    assert_eq!(of(Route::Start).caller_id.as_deref(), Some(CALLER));
}

#[tokio::test]
async fn the_api_key_is_sent_when_configured() {
    let guarded = |config: &mut SandboxConfig| config.api_key = Some("k3y".to_owned());
    let world = World::with(guarded, |config| config.api_key = Some("k3y".into())).await;
    world.ok(&check()).await;
    let world = World::with(guarded, |_| {}).await;
    world.fails_as(&check(), FailureKind::Forbidden).await;
}

#[tokio::test]
async fn the_trace_goes_along() {
    let world = World::new().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = CallContext { traceparent: Some(parent), tracestate: Some("a=b"), now: None };
    let job = check();
    world.client.call(call_of(&job), context).await.result.unwrap();
    assert_eq!(world.sandbox.calls_of(Route::Exists)[0].traceparent.as_deref(), Some(parent));
}

#[tokio::test]
async fn a_base_url_may_have_a_path_and_localhost_is_loopback() {
    let sandbox = Sandbox::start(SandboxConfig::default()).await.unwrap();
    let mut config = config(&sandbox);
    config.base_url = Some(format!("http://localhost:{}/nowhere/", sandbox.addr().port()).parse().unwrap());
    let client = XcoClient::new(&config).unwrap();
    let job = check();
    let failure = client.call(call_of(&job), CallContext::default()).await.result.unwrap_err();
    assert_eq!(failure.http_status, Some(404));
}

#[tokio::test]
async fn what_the_doctor_asks() {
    let world = World::new().await;
    assert_eq!(world.client.check_token().await.unwrap().as_secs(), 300);
    world.client.ping().await.unwrap();
    let client = world.client.clone();
    world.sandbox.shutdown().await;
    assert_eq!(client.ping().await.unwrap_err().kind, FailureKind::Network);
}
