//! XCO, or its token endpoint, refuses this client or asks for time. XCO's answers are passed on unchanged.

use super::support::{Rig, Setup, account, check, create, finalize, start, with};
use axum::{Router, extract::Request, http::StatusCode};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use xco_worker::{
    completions::{Options, Start, Subscriber},
    sandbox::{Fault, Route},
};

fn ends(events: &[Value]) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for event in events {
        let kind = event["error"]["kind"].as_str().or(event["outcome"].as_str()).unwrap_or("-");
        *ends.entry(kind.to_owned()).or_default() += 1;
    }
    ends
}

async fn breaker_reason(rig: &mut Rig) -> Option<String> {
    let workers: BTreeMap<String, String> = rig.connection.hgetall(rig.key("workers")).await.unwrap();
    let heartbeat: Value = serde_json::from_str(workers.values().next()?).unwrap();
    heartbeat["breaker_reason"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_asks_for_time_costs_no_attempt_and_no_slot() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 2;
    let mut rig = setup.without_worker().await;
    rig.sandbox.seed_user(&account("k@example.com"));
    rig.sandbox.order(Fault::status(429).retry_after("3").on(Route::Token));
    for n in 0..20 {
        rig.enqueue(&with(check(&format!("check-{n}"), "ip"), "max_attempts", 1)).await;
    }
    rig.enqueue(&with(start("start", "ip", "k@example.com"), "max_attempts", 1)).await;
    rig.enqueue(&with(start("hasty", "ip", "k@example.com"), "ttl_ms", 1500)).await;
    rig.start_worker();
    // All wait at once, with two worker slots, and none has a slot. The urgent one cannot be in time.
    rig.eventually("21 jobs aside", async |rig| {
        rig.connection.zcard::<_, usize>(rig.key("delayed")).await.unwrap() == 21
    })
    .await;
    let hasty = rig.completion("hasty").await;
    assert_eq!((&hasty["status"], &hasty["attempts"]), (&json!("expired"), &json!(0)), "{hasty:#}");
    assert_eq!(rig.sandbox.calls_of(Route::Token).len(), 1);
    let events = rig.wait_for(22).await;
    let had_to_wait = |event: &Value| event["timings_ms"]["retrying"].as_u64().unwrap() >= 2_000;
    assert!(events.iter().filter(|event| event["id"] != "hasty").all(had_to_wait), "{events:#?}");
    let wanted = BTreeMap::from([("absent".to_owned(), 20), ("otp_sent".to_owned(), 1), ("expired".to_owned(), 1)]);
    assert_eq!(ends(events), wanted);
    assert_eq!(rig.sandbox.calls_of(Route::Token).len(), 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_delays_jobs_and_ends_none() {
    let mut rig = Setup::default().without_worker().await;
    rig.sandbox.order(Fault::status(401).on(Route::Token).times(2));
    rig.start_worker();
    let done = rig.complete(with(check("patient", "ip"), "max_attempts", 1)).await;
    assert_eq!((&done["outcome"], &done["attempts"]), (&json!("absent"), &json!(1)), "{done:#}");
    assert_eq!(rig.sandbox.calls_of(Route::Token).len(), 3);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_this_client_leaves_the_backlog_waiting() {
    // The first of several 401s may concern its job alone; of 403s, all before the twentieth may.
    for (status, kind, most) in [(401, "unauthorized", 1), (403, "forbidden", 19)] {
        let mut setup = Setup::default();
        setup.config.worker.concurrency = 8;
        setup.config.retry.max_attempts = Some(3);
        let mut rig = setup.without_worker().await;
        rig.sandbox.order(Fault::status(status).always());
        for n in 0..300 {
            rig.enqueue(&check(&format!("j{n}"), &format!("c{n}"))).await;
        }
        rig.start_worker();
        rig.eventually("the reason is told", async |rig| breaker_reason(rig).await.as_deref() == Some("refused")).await;
        let seen = rig.sandbox.stats().calls;
        // Trial calls, one at a time.
        rig.sandbox.wait_for_calls(seen + 2).await;
        assert!(rig.sandbox.stats().calls < 100, "{} calls", rig.sandbox.stats().calls);
        rig.sandbox.clear_faults();
        let ends = ends(rig.wait_for(300).await);
        let refused = ends.get(kind).copied().unwrap_or(0);
        assert!(refused <= most, "{ends:?}");
        assert_eq!(ends.get("absent"), Some(&(300 - refused)), "{ends:?}");
        rig.eventually("it is over", async |rig| breaker_reason(rig).await.is_none()).await;
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_is_forbidden_stops_nobody_else() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(403).on(Route::Create).always());
    for n in 0..60 {
        let id = format!("j{n}");
        let other = "11111111-2222-4333-8444-555555555555";
        rig.enqueue(&with(create(&id, &format!("{id}@example.com")), "merchant_id", other)).await;
    }
    assert_eq!(ends(rig.wait_for(60).await), BTreeMap::from([("forbidden".to_owned(), 60)]));
    assert_eq!(rig.complete(check("c", "ip")).await["outcome"], "absent");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_jobs_401s_stop_nobody() {
    let mut rig = Setup::default().start().await;
    for n in 0..12 {
        rig.sandbox.order(Fault::status(401).times(2));
        let refused = rig.complete(check(&format!("refused-{n}"), "ip")).await;
        assert_eq!((&refused["error"]["kind"], &refused["attempts"]), (&json!("unauthorized"), &json!(2)));
        assert_eq!(rig.complete(check(&format!("fine-{n}"), "ip")).await["outcome"], "absent");
    }
    rig.end().await;
}

/// Numbers that an `f64` cannot represent, or would be written differently.
const EXACT: &str = r#"{"xco_id":12345678901234567890123,"n":[1e400,-0,1.10],"a":"é\u00e9"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_xco_says_is_in_the_completion_as_it_was() {
    let router = Router::new().fallback(async |request: Request| {
        let path = request.uri().path();
        let spaced = EXACT.replace(',', " ,\r\n\t");
        match path.rsplit('/').next() {
            Some("verify") => (StatusCode::OK, format!(r#"{{"consent_challenge_id":"ch", "user":{spaced}}}"#)),
            Some("consents") if path.contains("fails") => (StatusCode::CONFLICT, spaced),
            Some("consents") => (StatusCode::NO_CONTENT, String::new()),
            _ => (StatusCode::CREATED, spaced),
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut rig = Setup::default().without_worker().await;
    rig.config.xco.base_url = Some(format!("http://{address}").parse().unwrap());
    rig.start_worker();
    rig.enqueue(&create("create", "a@example.com")).await;
    rig.enqueue(&finalize("consent", "ip", "a@example.com", "123456")).await;
    rig.enqueue(&finalize("fails", "ip", "a@example.com", "123456")).await;
    let mut events: BTreeMap<String, String> = BTreeMap::new();
    rig.eventually("three completions", async |rig| {
        let reply: redis::streams::StreamRangeReply = rig.connection.xrange_all(rig.key("completions")).await.unwrap();
        events = reply.ids.iter().map(|entry| (entry.get("id").unwrap(), entry.get("event").unwrap())).collect();
        events.len() == 3
    })
    .await;
    for (id, part) in [
        ("create", format!(r#""result":{EXACT}"#)),
        ("consent", format!(r#""result":{{"consent_challenge_id":"ch","user":{EXACT}}}"#)),
        ("fails", format!(r#""problem":{EXACT}"#)),
    ] {
        let event: &String = &events[id];
        assert!(event.contains(&part), "{event}");
    }
    let letter = rig.letter("fails").await.unwrap();
    assert!(letter["error"].contains(EXACT), "{letter:#?}");
    rig.stop_workers().await;
    // The program's own reader accepts all of it.
    let options = Options { start: Start::Beginning, ..Options::default() };
    let mut subscriber = Subscriber::start(&rig.redis_as("reader"), options).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(20), subscriber.next()).await.unwrap().unwrap();
    assert_eq!(read.len(), 3);
    assert!(read.iter().all(|completed| completed.event["completed_at"].is_string()));
}
