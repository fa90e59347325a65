//! Tickets: a customer's own browser waits for one job.

use crate::support::{
    Rig, Setup, check, create,
    gateway::{TestGateway, gateway_toml},
};
use redis::AsyncCommands;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const SHOP: &str = "https://shop.example";

/// The path and query of a job's `wait_url`.
async fn enqueue(gateway: &TestGateway, job: &Value) -> String {
    let answer = gateway.post("/v1/jobs", "sender", job).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let url = answer.json()["wait_url"].as_str().unwrap().to_owned();
    url.split_once("/v1/").map(|(_, path)| format!("/v1/{path}")).unwrap()
}

async fn start() -> (Rig, TestGateway) {
    let rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    (rig, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_learns_how_its_job_ended_and_nothing_more() {
    let (mut rig, gateway) = start().await;
    let mut job = create("a/b", "ada@example.com");
    job["caller_id"] = "203.0.113.9".into();
    let path = enqueue(&gateway, &job).await;
    let answer = gateway.get(&path, "").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "succeeded", "outcome": "created"})));
    // Ended jobs are answered at once, failed ones with their kind alone.
    assert_eq!(gateway.get(&path, "").await.json()["outcome"], "created");
    let mut later = check("later", "c");
    later["run_at"] = "2999-01-01T00:00:00Z".into();
    let path = enqueue(&gateway, &later).await;
    let job = || gateway.get("/v1/jobs/later", "reader");
    rig.eventually("it is delayed", async |_| job().await.json()["place"] == "parked").await;
    assert_eq!(gateway.delete("/v1/jobs/later", "ops").await.status, 200);
    let seen = gateway.get(&path, "").await.json();
    assert_eq!(seen, json!({"status": "cancelled", "error": {"kind": "cancelled"}}));
    rig.wait_for(2).await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ticket_that_does_not_fit_gets_the_same_answer() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start_with(&rig, &gateway_toml(), |config| {
        config.gateway.ticket_ttl = Duration::from_secs(3);
    })
    .await;
    let other_gateway = TestGateway::start(&rig).await;
    let stranger = enqueue(&other_gateway, &check("one", "c")).await;
    let path = enqueue(&gateway, &check("two", "c")).await;
    assert_eq!(gateway.get(&path, "").await.status, 200);
    let ticket = path.split_once("ticket=").unwrap().1;
    let forged = ticket.replacen("x1.r.", "x1.a.", 1);
    let mut answers = Vec::new();
    for path in [
        format!("/v1/jobs/one/wait?ticket={ticket}"),
        format!("/v1/jobs/two/wait?ticket={forged}"),
        format!("/v1/jobs/two/wait?ticket={ticket}A"),
        format!("/v1/jobs/two/wait?ticket={}", "x".repeat(4_000)),
        "/v1/jobs/two/wait?ticket=".to_owned(),
        "/v1/jobs/two/wait".to_owned(),
        // Another gateway's key.
        stranger,
    ] {
        let mut document = gateway.get(&path, "all").await.problem(401, "unauthorized");
        document.as_object_mut().unwrap().remove("request_id");
        answers.push(document);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut stale = gateway.get(&path, "").await.problem(401, "unauthorized");
    stale.as_object_mut().unwrap().remove("request_id");
    answers.push(stale);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    rig.wait_for(2).await;
    other_gateway.end().await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_pending_and_then_completed() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let path = enqueue(&gateway, &check("s", "c")).await;
    let open = || gateway.events(gateway.request(Method::GET, &path, "").header("origin", SHOP));
    let (mut first, mut second) = (open().await, open().await);
    assert_eq!(first.header("access-control-allow-origin"), SHOP);
    for stream in [&mut first, &mut second] {
        let event = stream.next().await.unwrap();
        assert_eq!((event.name.as_str(), event.data), ("pending", json!({"status": "pending"})));
    }
    // A third at a time is refused, with when to come again. The page of the shop may read that.
    let request = gateway.request(Method::GET, &path, "").header("origin", SHOP);
    let refused = gateway.send(request).await;
    refused.problem(429, "rate-limited");
    assert_eq!((refused.header("retry-after"), refused.header("access-control-allow-origin")), ("1", SHOP));
    rig.start_worker();
    for mut stream in [first, second] {
        let event = stream.next().await.unwrap();
        assert_eq!(
            (event.name.as_str(), event.data),
            ("completed", json!({"status": "succeeded", "outcome": "absent"}))
        );
        assert_eq!(stream.next().await, None, "it ends");
    }
    rig.wait_for(1).await;
    // Both are free again.
    let mut ended = open().await;
    assert_eq!(ended.next().await.unwrap().name, "pending");
    assert_eq!(ended.next().await.unwrap().name, "completed");
    // 30 a minute.
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(gateway.get(&path, "").await.status);
    }
    assert!(statuses.contains(&200) && statuses.ends_with(&[429]), "{statuses:?}");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_the_allowed_origins_may_read_the_answer() {
    let (mut rig, gateway) = start().await;
    let path = enqueue(&gateway, &check("cors", "c")).await;
    rig.completion("cors").await;
    let ask = |method: Method, path: &str, origin: &'static str| {
        let mut request = gateway.request(method.clone(), path, "").header("origin", origin);
        if method == Method::OPTIONS {
            request = request
                .header("access-control-request-method", "GET")
                .header("access-control-request-headers", "last-event-id");
        }
        gateway.send(request)
    };
    let faulty = path.replace("x1.", "x2.");
    for (path, status) in [(path.as_str(), 200), (faulty.as_str(), 401)] {
        let allowed = ask(Method::GET, path, SHOP).await;
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (status, SHOP), "{allowed:?}");
        assert_eq!(allowed.header("access-control-allow-credentials"), "");
        assert!(vary(&allowed).contains("origin"), "{allowed:?}");
        for origin in ["https://evil.example", "null", "https://shop.example.evil.example", "http://shop.example"] {
            let refused = ask(Method::GET, path, origin).await;
            assert_eq!(refused.header("access-control-allow-origin"), "", "{origin}");
            assert!(vary(&refused).contains("origin"), "{refused:?}");
        }
    }
    // A browser asks first, if the page sets a header.
    let preflight = ask(Method::OPTIONS, &path, SHOP).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, SHOP), "{preflight:?}");
    assert!(preflight.header("access-control-allow-methods").contains("GET"));
    assert!(preflight.header("access-control-allow-headers").to_lowercase().contains("last-event-id"));
    assert_eq!(ask(Method::OPTIONS, &path, "https://evil.example").await.header("access-control-allow-origin"), "");
    // On this route alone.
    for path in ["/v1/jobs", "/v1/status", "/openapi.json"] {
        assert_eq!(ask(Method::GET, path, SHOP).await.header("access-control-allow-origin"), "", "{path}");
        assert_eq!(ask(Method::OPTIONS, path, SHOP).await.header("access-control-allow-origin"), "", "{path}");
    }
    gateway.end().await;
    rig.end().await;
}

fn vary(answer: &crate::support::gateway::Answer) -> String {
    let values = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase());
    values.collect::<Vec<_>>().join(",")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_not_ended_is_pending() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let path = enqueue(&gateway, &check("p", "c")).await;
    let answer = gateway.get(&path, "").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "pending"})));
    let _: () = rig.connection.del(rig.key("jobs:interactive")).await.unwrap();
    gateway.end().await;
    rig.end().await;
}
