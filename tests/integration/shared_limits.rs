//! Shared limits: what bulk leaves to interactive jobs, XCO's own limits kept exactly, and what is remembered of 429s.

use super::support::{Rig, Setup, check, create, limit, timing, with};
use redis::AsyncCommands;
use serde_json::json;
use std::time::Duration;
use xco_worker::{
    config::Config,
    contract::Lane,
    operations::{Backend, MerchantScope, NoProgress, jobs},
    queue::{Connector, Keys, learned},
    sandbox::{Fault, Route, SandboxLimit},
};

/// A limit of `rate` a second here and at XCO, with a margin for a machine that runs other tests, too.
fn same_limits(rate: u32, burst: u32, margin_ms: u64) -> Setup {
    let mut setup = Setup::default();
    let ours = limit(&format!("{rate}/s"), burst);
    (setup.config.limits.client, setup.config.limits.caller) = (Some(ours), Some(ours));
    setup.config.limits.margin = Duration::from_millis(margin_ms);
    let theirs = Some(SandboxLimit { per_second: f64::from(rate), burst });
    (setup.sandbox.client_limit, setup.sandbox.caller_limit) = (theirs, theirs);
    setup
}

async fn waiting(rig: &mut Rig, bucket: &str) -> usize {
    rig.connection.zcard(rig.key(&format!("waiting:{bucket}"))).await.unwrap()
}

async fn all_but(rig: &mut Rig, most: usize, count: usize) {
    rig.eventually("bulk waits", async |rig| waiting(rig, "client").await + most >= count).await;
}

/// What `why` says of a job.
async fn why(rig: &Rig, id: &str) -> String {
    let redis = rig.redis_as("operator");
    let config = Config { redis: redis.clone(), ..rig.config.clone() };
    let mut backend = Backend::connect(&redis).await.unwrap();
    let explained = jobs::explain(&mut backend, &config, id, &MerchantScope::all(), &NoProgress).await.unwrap();
    serde_json::to_string(&explained).unwrap()
}

fn refused(rig: &Rig) -> usize {
    rig.sandbox.calls().iter().filter(|call| call.status == Some(429)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn interactive_goes_before_bulk_that_waits_for_the_same_quota() {
    let mut rig = same_limits(100, 20, 100).start().await;
    let count = 300;
    rig.enqueue_all(Lane::Bulk, (0..count).map(|n| create(&format!("b{n:03}"), &format!("b{n}@example.com")))).await;
    all_but(&mut rig, 60, count).await;
    let told = why(&rig, "b299").await;
    let place = told.split("its turn, at that time at the latest, behind ").nth(1).unwrap();
    assert!(place.contains(" older jobs in the limit of calls without a caller"), "{told}");
    for number in 0..5 {
        let id = format!("i{number}");
        let done = rig.complete(create(&id, &format!("{id}@example.com"))).await;
        assert_eq!(done["outcome"], "created");
    }
    let left = waiting(&mut rig, "client").await;
    assert!(left > 100, "bulk is not done before: {left} of {count} wait");
    rig.wait_for(count + 5).await;
    assert_eq!(refused(&rig), 0);
    // Oldest first: no job is overtaken by more than the number of running calls.
    let order: Vec<usize> = rig
        .sandbox
        .calls_of(Route::Create)
        .iter()
        .filter_map(|call| call.key.as_deref()?.strip_prefix('b')?.split('@').next()?.parse().ok())
        .collect();
    assert!(order.iter().enumerate().all(|(at, number)| at.abs_diff(*number) < 64), "{order:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_waits_in_the_queue_of_the_bucket_that_is_full_and_holds_up_no_other() {
    let mut setup = Setup::default();
    setup.config.limits.client = Some(limit("40/s", 4));
    setup.config.limits.total = Some(limit("60/s", 4));
    let mut rig = setup.start().await;
    let creates = (0..40).map(|n| create(&format!("c{n}"), &format!("c{n}@example.com")));
    let checks = (0..40).map(|n| check(&format!("k{n}"), &format!("ip-{n}")));
    rig.enqueue_all(Lane::Bulk, creates.chain(checks)).await;
    rig.wait_for(80).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded" && event["attempts"] == 1));
    assert!(rig.completions.iter().any(|event| timing(event, "limited") > 0));
    for bucket in ["client", "total"] {
        assert_eq!(waiting(&mut rig, bucket).await, 0);
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_queue_beyond_the_deadline_ends_the_job_at_once_and_one_within_it_in_time() {
    let mut setup = Setup::default();
    setup.config.limits.client = Some(limit("1/s", 1));
    let mut rig = setup.start().await;
    rig.enqueue_all(Lane::Bulk, (0..5).map(|n| create(&format!("b{n}"), &format!("b{n}@example.com")))).await;
    all_but(&mut rig, 1, 5).await;
    let hopeless = with(create("hopeless", "h@example.com"), "ttl_ms", 3_000);
    rig.enqueue_all(Lane::Bulk, [hopeless]).await;
    let done = rig.completion("hopeless").await;
    assert_eq!((&done["status"], &done["error"]["kind"]), (&json!("expired"), &json!("rate_limited")), "{done:#}");
    assert!(timing(&done, "total") < 3_000, "before its time is up: {done:#}");
    // There is room before its deadline, until another job takes it.
    let hopeful = with(create("hopeful", "h@example.com"), "ttl_ms", 8_000);
    rig.enqueue_all(Lane::Bulk, [hopeful]).await;
    all_but(&mut rig, 3, 6).await;
    rig.sandbox.order(Fault::status(429).on(Route::Create).retry_after("60"));
    let done = rig.completion("hopeful").await;
    assert_eq!((&done["status"], &done["error"]["kind"]), (&json!("expired"), &json!("rate_limited")), "{done:#}");
    assert_eq!(done["attempts"], 0);
    rig.stop_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_jobs_429_closes_the_bucket_and_the_job_waits_in_its_queue() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(429).on(Route::Create).retry_after("1"));
    rig.enqueue_all(Lane::Bulk, [create("first", "f@example.com")]).await;
    all_but(&mut rig, 0, 1).await;
    rig.enqueue_all(Lane::Bulk, [create("second", "s@example.com")]).await;
    rig.wait_for(2).await;
    let first = rig.completion("first").await;
    assert_eq!((&first["status"], &first["attempts"]), (&json!("succeeded"), &json!(2)), "{first:#}");
    assert!(timing(&first, "limited") >= 900, "{first:#}");
    assert_eq!(rig.completion("second").await["attempts"], 1);
    rig.end().await;
}

/// A job in a shared queue is told what its bucket has learned, as one with a reservation is.
#[tokio::test(flavor = "multi_thread")]
async fn why_names_the_429_that_closes_a_shared_queue() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(429).on(Route::Create).retry_after("5"));
    rig.enqueue_all(Lane::Bulk, [create("first", "f@example.com")]).await;
    all_but(&mut rig, 0, 1).await;
    let told = why(&rig, "first").await;
    assert!(
        told.contains("behind 0 older jobs in the limit of calls without a caller, closed by a 429 until "),
        "{told}"
    );
    rig.wait_for(1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_equal_to_xcos_is_not_overrun() {
    let mut rig = same_limits(100, 30, 150).start().await;
    rig.start_worker();
    rig.enqueue_all(Lane::Bulk, (0..150).map(|n| create(&format!("b{n}"), &format!("b{n}@example.com")))).await;
    for number in 0..150 {
        rig.enqueue(&check(&format!("c{number}"), "ip")).await;
    }
    rig.wait_for(300).await;
    assert_eq!(refused(&rig), 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_due_while_no_worker_ran_does_not_go_all_at_once() {
    let mut rig = same_limits(20, 6, 150).start().await;
    for number in 0..30 {
        rig.enqueue(&check(&format!("c{number}"), "ip")).await;
    }
    rig.eventually("they wait", async |rig| {
        let parked: usize = rig.connection.zcard(rig.key("delayed")).await.unwrap();
        parked >= 15
    })
    .await;
    rig.stop_workers().await;
    rig.eventually("they are due, the last for a while", async |rig| {
        let (seconds, micros): (f64, f64) = redis::cmd("TIME").query_async(&mut rig.connection).await.unwrap();
        let last: Vec<(String, f64)> = rig.connection.zrange_withscores(rig.key("delayed"), -1, -1).await.unwrap();
        last.first().is_none_or(|(_, due_ms)| seconds * 1000.0 + micros / 1000.0 > due_ms + 500.0)
    })
    .await;
    rig.start_worker();
    rig.wait_for(30).await;
    assert_eq!(refused(&rig), 0);
    rig.end().await;
}

async fn learned_limits(config: &Config) -> Vec<learned::LearnedLimit> {
    let connector = Connector::new(&config.redis).unwrap();
    learned::learned(&mut connector.link(false), &Keys::new(&config.redis.namespace, 0), 10).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_429_taught_is_told_and_survives_a_restart() {
    let mut setup = Setup::default();
    setup.config.limits.learn = true;
    let mut rig = setup.start().await;
    assert_eq!(learned_limits(&rig.config).await, []);
    // The first 429 teaches little. Each further one, with few calls in between, halves the rate.
    for _ in 0..8 {
        rig.sandbox.order(Fault::status(429).on(Route::Create).retry_after("1"));
        let id = format!("b{:08x}", rand::random::<u32>());
        rig.enqueue_all(Lane::Bulk, [create(&id, &format!("{id}@example.com"))]).await;
        rig.completion(&id).await;
    }
    rig.sandbox.order(Fault::status(429).retry_after("600").on(Route::Exists));
    rig.enqueue(&with(check("closed", "ip"), "ttl_ms", 10_000)).await;
    rig.completion("closed").await;
    let before = learned_limits(&rig.config).await;
    let names: Vec<_> = before.iter().map(|limit| limit.bucket.as_str()).collect();
    assert_eq!(names, ["caller:ip", "client"]);
    let (caller, client) = (&before[0], &before[1]);
    assert_eq!(caller.rate_per_s, Some(200.0), "a first 429 may be a whim: {caller:?}");
    assert!(caller.closed_until_ms >= caller.last_429_ms + 599_000, "{caller:?}");
    let rate = client.rate_per_s.unwrap();
    assert!((0.1..5.0).contains(&rate) && client.strikes == 8, "{client:?}");

    rig.stop_workers().await;
    rig.start_worker();
    // With an open bucket all would go at once.
    let count = rig.sandbox.calls_of(Route::Create).len();
    rig.enqueue_all(Lane::Bulk, (0..3).map(|n| create(&format!("after{n}"), &format!("after{n}@example.com")))).await;
    rig.wait_for(12).await;
    let at: Vec<u64> = rig.sandbox.calls_of(Route::Create)[count..].iter().map(|call| call.at_us).collect();
    assert!(at[2] - at[0] >= 500_000, "{at:?} at {rate} a second");
    assert_eq!(rig.complete(with(check("still", "ip"), "ttl_ms", 10_000)).await["error"]["kind"], "rate_limited");
    rig.end().await;
}
