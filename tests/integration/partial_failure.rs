//! XCO partly fails: one of its routes, or a share of its calls.

use super::{
    commands::{json_lines, pointed},
    support::{Rig, Setup, account, check, create, free_port, start, with},
};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use xco_worker::{
    contract::Lane,
    sandbox::{Fault, Latency, Route},
};

fn creates(count: usize) -> impl Iterator<Item = Value> {
    (0..count).map(|n| create(&format!("create-{n}"), &format!("c{n}@example.com")))
}

async fn heartbeat(rig: &mut Rig) -> Value {
    let workers: BTreeMap<String, String> = rig.connection.hgetall(rig.key("workers")).await.unwrap();
    workers.values().next().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

async fn aside(rig: &mut Rig, lane: &str) -> u64 {
    let key = rig.key(&format!("held:breaker:create_user:{lane}"));
    rig.connection.zcard(key).await.unwrap()
}

/// Waits until creations are known to fail and are delayed.
async fn creations_wait(rig: &mut Rig, lane: &str, count: u64) {
    rig.eventually("creations step aside", async |rig| aside(rig, lane).await >= count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_that_all_fail_hold_up_no_check_and_end_well_afterwards() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 8;
    setup.config.retry.max_attempts = Some(3);
    let mut rig = setup.without_worker().await;
    rig.sandbox.order(Fault::status(500).on(Route::Create).always());
    rig.enqueue_all(Lane::Bulk, creates(300)).await;
    rig.start_worker();
    creations_wait(&mut rig, "bulk", 200).await;
    for n in 0..60 {
        rig.enqueue(&check(&format!("check-{n}"), &format!("ip-{n}"))).await;
    }
    // Checks in the bulk lane are behind creations, and still reached.
    rig.enqueue_all(Lane::Bulk, (0..20).map(|n| check(&format!("check-bulk-{n}"), &format!("ip-{n}")))).await;
    rig.follow(30, |events| {
        events.iter().filter(|event| event["id"].as_str().unwrap().starts_with("check-")).count() == 80
    })
    .await;
    assert!(
        rig.completions
            .iter()
            .all(|event| !event["id"].as_str().unwrap().starts_with("check-") || event["status"] == "succeeded")
    );
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len(), 80, "each is called once");
    rig.eventually("the route is told", async |rig| heartbeat(rig).await["breaker_routes"]["CreateUser"].is_string())
        .await;
    assert_eq!(heartbeat(&mut rig).await["breaker"], "closed");
    let calls = rig.sandbox.calls_of(Route::Create).len();
    assert!(calls <= 20 + 8 + 20, "{calls} calls of a route that fails: until that is known, and some to find out");
    rig.sandbox.clear_faults();
    let events = rig.wait_for(380).await;
    assert!(events.iter().all(|event| event["status"] == "succeeded"), "in an outage no attempt is spent");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_a_route_that_fails_stays_where_it_is() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 8;
    let mut rig = setup.without_worker().await;
    rig.sandbox.order(Fault::status(503).on(Route::Create).always());
    rig.enqueue_all(Lane::Bulk, creates(3_000)).await;
    rig.start_worker();
    creations_wait(&mut rig, "bulk", 1_000).await;
    // Several probes later there are still only a few calls.
    let seen = rig.sandbox.calls_of(Route::Create).len();
    rig.eventually("a few probes", async |rig| rig.sandbox.calls_of(Route::Create).len() >= seen + 3).await;
    let (held, left) =
        (aside(&mut rig, "bulk").await, rig.connection.xlen::<_, u64>(rig.key("jobs:bulk")).await.unwrap());
    assert!(held <= 1_600 && left >= 1_300, "{held} aside, {left} left in the lane");
    rig.complete(check("check", "ip")).await;
    rig.sandbox.clear_faults();
    rig.follow(60, |events| events.len() == 3_001).await;
    let order: Vec<usize> = rig
        .completions
        .iter()
        .filter_map(|event| event["id"].as_str()?.strip_prefix("create-")?.parse().ok())
        .collect();
    assert_eq!(order.len(), 3_000);
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_find_out_first_whether_a_route_is_back() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 4;
    let mut rig = setup.without_worker().await;
    rig.sandbox.order(Fault::status(500).on(Route::Create).always());
    rig.enqueue_all(Lane::Bulk, creates(100)).await;
    rig.start_worker();
    creations_wait(&mut rig, "bulk", 60).await;
    rig.enqueue_all(Lane::Interactive, (0..3).map(|n| create(&format!("person-{n}"), &format!("p{n}@example.com"))))
        .await;
    creations_wait(&mut rig, "interactive", 2).await;
    let seen = rig.sandbox.calls_of(Route::Create).len();
    rig.eventually("a few probes", async |rig| rig.sandbox.calls_of(Route::Create).len() >= seen + 3).await;
    let probes: BTreeSet<String> =
        rig.sandbox.calls_of(Route::Create)[seen..].iter().filter_map(|call| call.key.clone()).collect();
    assert!(probes.iter().all(|key| key.contains("person") || key.starts_with('p')), "{probes:?}");
    rig.sandbox.clear_faults();
    rig.wait_for(103).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attempt_is_one_call_whatever_the_breaker_says() {
    let mut rig = Setup::default().without_worker().await;
    rig.sandbox.order(Fault::status(500).on(Route::Exists).always());
    rig.enqueue_all(
        Lane::Interactive,
        (0..50).map(|n| with(check(&format!("j{n}"), &format!("ip-{n}")), "max_attempts", 1)),
    )
    .await;
    rig.start_worker();
    rig.eventually("the breaker opens", async |rig| heartbeat(rig).await["breaker_routes"]["CheckUser"].is_string())
        .await;
    rig.sandbox.clear_faults();
    let events = rig.wait_for(50).await;
    assert!(events.iter().all(|event| event["attempts"] == 1), "{events:#?}");
    assert!(events.iter().filter(|event| event["status"] == "failed").count() >= 20);
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len(), 50);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_steps_aside_ends_in_time() {
    let mut rig = Setup::default().without_worker().await;
    rig.sandbox.order(Fault::status(500).on(Route::Create).always());
    rig.enqueue_all(Lane::Bulk, creates(60)).await;
    rig.start_worker();
    creations_wait(&mut rig, "bulk", 20).await;
    let hasty = with(create("hasty", "h@example.com"), "ttl_ms", 700);
    let done = rig.complete(hasty).await;
    assert_eq!((&done["status"], &done["error"]["kind"]), (&json!("expired"), &json!("expired")), "{done:#}");
    rig.sandbox.clear_faults();
    rig.wait_for(61).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_what_they_know_of_a_route() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 8;
    let mut rig = setup.without_worker().await;
    rig.sandbox.order(Fault::status(500).on(Route::Create).always());
    rig.enqueue_all(Lane::Bulk, creates(200)).await;
    rig.start_worker();
    creations_wait(&mut rig, "bulk", 100).await;
    rig.start_worker();
    rig.eventually("both know", async |rig| {
        let workers: BTreeMap<String, String> = rig.connection.hgetall(rig.key("workers")).await.unwrap();
        workers.len() == 2 && workers.values().all(|text| text.contains("breaker_routes"))
    })
    .await;
    rig.sandbox.clear_faults();
    assert!(rig.wait_for(200).await.iter().all(|event| event["status"] == "succeeded"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constant_share_of_failures_costs_little_more_than_the_failures() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 16;
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(10));
    let mut rig = setup.without_worker().await;
    rig.sandbox.order(Fault::status(500).on(Route::Exists).with_probability(0.4, 7));
    rig.enqueue_all(Lane::Interactive, (0..2_000).map(|n| check(&format!("j{n}"), &format!("ip-{n}")))).await;
    rig.start_worker();
    // This tests behaviour, not speed: the slots remain, and no breaker opens by chance.
    rig.follow(60, |events| events.len() >= 1_500).await;
    let beat = heartbeat(&mut rig).await;
    assert_eq!((&beat["allowed"], &beat["breaker_routes"]), (&json!(16), &Value::Null), "{beat:#}");
    rig.follow(60, |events| events.len() >= 2_000).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_short_fault_the_slots_come_back_while_few_people_come() {
    let mut setup = Setup::default();
    (setup.config.worker.concurrency, setup.config.worker.breaker) = (32, false);
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(10));
    let mut rig = setup.start().await;
    rig.complete(check("first", "ip")).await;
    // Calls are refused because there are too many: the concurrency shrinks.
    rig.sandbox.order(Fault::status(503).on(Route::Exists).times(600));
    rig.enqueue_all(Lane::Bulk, (0..12_000).map(|n| check(&format!("j{n}"), &format!("ip-{n}")))).await;
    rig.eventually("the fault is over", async |rig| rig.sandbox.calls_of(Route::Exists).len() > 700).await;
    // Interactive jobs arrive, so bulk leaves them half of the allowed slots.
    for n in 0..3 {
        rig.complete(check(&format!("person-{n}"), "ip")).await;
    }
    rig.eventually("all slots are allowed", async |rig| heartbeat(rig).await["allowed"] == 32).await;
    rig.follow(60, |events| events.len() == 12_004).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_route_is_told_so() {
    let mut rig = Setup::default().without_worker().await;
    rig.sandbox.order(Fault::status(500).on(Route::Create).always());
    rig.enqueue_all(Lane::Bulk, creates(80)).await;
    rig.start_worker();
    creations_wait(&mut rig, "bulk", 20).await;
    let folder = tempfile::tempdir().unwrap();
    let tool = |rig: &Rig, args: &[&str]| -> Value {
        let output = pointed(&folder, rig).args(args).arg("--json").assert().code(0).get_output().stdout.clone();
        json_lines(&output).remove(0)
    };
    rig.eventually("the route is told", async |rig| heartbeat(rig).await["breaker_routes"]["CreateUser"].is_string())
        .await;
    let status = tool(&rig, &["status", "--every", "200ms"]);
    assert_eq!(status["breaker"]["open"], false, "{status:#}");
    assert!(status["breaker"]["routes"]["CreateUser"].is_object(), "{status:#}");
    assert!(status["delayed"]["by_reason"]["breaker"].as_u64().unwrap() >= 20, "{status:#}");
    let key = rig.key("delayed:jobs");
    let parked: BTreeMap<String, String> = rig.connection.hgetall(key).await.unwrap();
    let kept = parked.values().find(|kept| kept.starts_with('{') && kept.contains("\"u\":true")).unwrap();
    let job: Value = serde_json::from_str(kept.split_once('\n').unwrap().1).unwrap();
    let why = tool(&rig, &["why", job["id"].as_str().unwrap()]);
    assert_eq!((&why["waits_for"], &why["holds"]), (&json!("breaker"), &json!(["breaker"])), "{why:#}");
    rig.sandbox.clear_faults();
    rig.wait_for(80).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_no_job_is_taken_and_none_is_lost() {
    let mut rig = Setup::default().without_worker().await;
    rig.sandbox.seed_user(&account("k@example.com"));
    let port = free_port();
    let sandbox = rig.sandbox.base_url();
    rig.config.xco.base_url = Some(format!("http://127.0.0.1:{port}").parse().unwrap());
    rig.enqueue_all(Lane::Interactive, (0..60).map(|n| start(&format!("j{n}"), &format!("ip-{n}"), "k@example.com")))
        .await;
    rig.enqueue_all(Lane::Bulk, creates(60)).await;
    rig.start_worker();
    rig.eventually("it is known", async |rig| {
        let beat = heartbeat(rig).await;
        beat["breaker"].as_str().is_some_and(|word| word != "closed") && beat["breaker_routes"].is_null()
    })
    .await;
    assert!(aside(&mut rig, "bulk").await == 0 && rig.completions.is_empty());
    // XCO is reachable again.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let to = format!("127.0.0.1:{}", sandbox.port().unwrap());
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    assert!(rig.wait_for(120).await.iter().all(|event| event["status"] == "succeeded"), "no attempt was spent");
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 60, "each code is sent once");
    rig.end().await;
}
