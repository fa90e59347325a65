//! The simulator's control endpoints, as a test in another language uses them.

use super::support::{EMAIL, World, check, start, verify};
use serde_json::{Value, json};
use xco_worker::{sandbox::EffectKind, xco::FailureKind};

async fn post(world: &World, path: &str, body: Value) -> u16 {
    let url = world.sandbox.base_url().join(path).unwrap();
    reqwest::Client::new().post(url).json(&body).send().await.unwrap().status().as_u16()
}

async fn get(world: &World, path: &str) -> (u16, Value) {
    let url = world.sandbox.base_url().join(path).unwrap();
    let response = reqwest::Client::new().get(url).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_flow_by_http_alone() {
    let world = World::new().await;
    assert_eq!(post(&world, "/_sandbox/users", json!({"email": EMAIL, "token_count": 1})).await, 204);
    assert_eq!(get(&world, "/_sandbox/otp?email=john%40example.com").await.0, 404);
    world.ok(&start()).await;
    let (_, otp) = get(&world, "/_sandbox/otp?email=john%40example.com").await;
    world.ok(&verify(otp["verification_code"].as_str().unwrap())).await;
    let (_, state) = get(&world, "/_sandbox/state").await;
    assert_eq!((&state["users"], &state["calls"]), (&json!(1), &json!(2)));
    assert_eq!(state["answers"]["start"]["204"], 1);
    let (_, calls) = get(&world, "/_sandbox/calls?route=start").await;
    assert_eq!(calls.as_array().unwrap().len(), 1);
    assert_eq!((&calls[0]["key"], &calls[0]["status"]), (&json!(EMAIL), &json!(204)));
    let (_, effects) = get(&world, "/_sandbox/effects").await;
    assert_eq!(effects[1]["kind"], "code_spent");
    assert_eq!(post(&world, "/_sandbox/reset", json!({})).await, 204);
    assert_eq!(get(&world, "/_sandbox/state").await.1["users"], 0);
}

#[tokio::test]
async fn faults_outages_and_tokens() {
    let world = World::new().await;
    let fault = json!({"route": "exists", "statuses": [503, 500]});
    assert_eq!(post(&world, "/_sandbox/faults", fault).await, 204);
    for status in [503, 500] {
        assert_eq!(world.fails_as(&check(), FailureKind::Upstream).await.http_status, Some(status));
    }
    assert_eq!(post(&world, "/_sandbox/faults", json!({"statuss": 1})).await, 400);
    assert_eq!(post(&world, "/_sandbox/outage", json!({"on": true, "status": 500})).await, 204);
    world.fails_as(&check(), FailureKind::Upstream).await;
    assert_eq!(post(&world, "/_sandbox/outage", json!({"on": false})).await, 204);
    assert_eq!(post(&world, "/_sandbox/tokens/revoke", json!({})).await, 204);
    assert_eq!(world.call(&check()).await.calls, 2);
}

#[tokio::test]
async fn the_last_code_replaces_the_former_and_tries_are_counted() {
    let world = World::with(|config| config.max_code_attempts = 2, |_| {}).await.known();
    world.ok(&start()).await;
    let former = world.sandbox.otp(EMAIL).unwrap();
    world.ok(&start()).await;
    let code = world.sandbox.otp(EMAIL).unwrap();
    assert_ne!(former, code);
    world.fails_as(&verify(&former), FailureKind::InvalidCode).await;
    world.fails_as(&verify("000"), FailureKind::InvalidCode).await;
    // Only two tries were allowed.
    assert_eq!(world.sandbox.otp(EMAIL), None);
    world.fails_as(&verify(&code), FailureKind::InvalidCode).await;
    let tried: Vec<_> =
        world.sandbox.effects().into_iter().filter(|effect| effect.kind == EffectKind::CodeTried).collect();
    assert_eq!(tried.iter().map(|effect| effect.code_number).collect::<Vec<_>>(), [2, 2]);
}
