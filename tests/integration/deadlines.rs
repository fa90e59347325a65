//! `ttl_ms`, `run_at`, and when jobs expire.

use super::support::{Rig, Setup, account, check, create, in_time, limit, moment, start, timing, with};
use serde_json::{Value, json};
use std::time::Duration;
use xco_worker::{
    contract::JobType,
    sandbox::{Fault, Route},
};

/// Waits until Redis's clock is `by_ms` past the entry's time.
async fn redis_time_passes(rig: &mut Rig, entry: &str, by_ms: u64) {
    let from: u64 = entry.split_once('-').unwrap().0.parse().unwrap();
    rig.eventually("time passes", async |rig| {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut rig.connection).await.unwrap();
        seconds * 1000 + micros / 1000 > from + by_ms
    })
    .await;
}

fn assert_expired(event: &Value, kind: &str) {
    assert_eq!((&event["status"], &event["error"]["kind"]), (&json!("expired"), &json!(kind)), "{event:#}");
    assert_eq!(event["error"]["retryable"], true, "{event:#}");
    assert!(event.get("outcome").is_none() && event.get("result").is_none(), "{event:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_too_late_is_not_run() {
    let mut rig = Setup::default().without_worker().await;
    let entry = rig.enqueue(&with(check("late", "ip"), "ttl_ms", 1)).await;
    redis_time_passes(&mut rig, &entry, 1).await;
    rig.start_worker();
    let done = rig.completion("late").await;
    assert_expired(&done, "expired");
    assert_eq!(done["attempts"], 0);
    assert!(done.get("started_at").is_none() && done.get("dead_lettered").is_none(), "{done:#}");
    assert_eq!(rig.sandbox.stats().calls, 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_retrying() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(500).always());
    let job = with(with(check("retrying", "ip"), "ttl_ms", 600), "max_attempts", 100);
    let done = rig.complete(job).await;
    assert_expired(&done, "expired");
    assert!(done["attempts"].as_u64().unwrap() >= 2, "{done:#}");
    assert!(timing(&done, "total") < 1500, "{done:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_beyond_the_deadline_ends_the_job_in_time() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(503).retry_after("3600"));
    let done = rig.complete(with(check("later", "ip"), "ttl_ms", 1500)).await;
    assert_expired(&done, "expired");
    assert_eq!(done["attempts"], 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_beyond_the_deadline_ends_the_job_at_once() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("1/m", 1));
    let mut rig = setup.start().await;
    rig.complete(check("first", "ip")).await;
    let done = rig.complete(with(check("second", "ip"), "ttl_ms", 20_000)).await;
    assert_expired(&done, "rate_limited");
    assert_eq!(done["attempts"], 0);
    assert!(timing(&done, "total") < 10_000, "not only when its time is up: {done:#}");
    assert_eq!(rig.sandbox.stats().calls, 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closure_beyond_the_deadline_ends_the_job_that_met_it_and_those_behind() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(429).retry_after("60"));
    let met = rig.complete(with(check("met", "ip"), "ttl_ms", 20_000)).await;
    assert_expired(&met, "rate_limited");
    assert_eq!(met["attempts"], 1);
    let behind = rig.complete(with(check("behind", "ip"), "ttl_ms", 20_000)).await;
    assert_expired(&behind, "rate_limited");
    assert_eq!(behind["attempts"], 0);
    assert!(timing(&behind, "total") < 10_000, "{behind:#}");
    let other = rig.complete(with(check("other", "another"), "ttl_ms", 20_000)).await;
    assert_eq!(other["status"], "succeeded", "{other:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_at_is_kept_and_the_deadline_counts_from_it() {
    let mut rig = Setup::default().start().await;
    let run_at = in_time(Duration::from_millis(1500));
    let job = with(with(check("at", "ip"), "run_at", run_at.clone()), "ttl_ms", 1000);
    rig.enqueue(&job).await;
    let sooner = rig.complete(check("sooner", "ip")).await;
    assert_eq!(sooner["status"], "succeeded", "it delays nobody");
    let done = rig.completion("at").await;
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let run_at: jiff::Timestamp = run_at.parse().unwrap();
    assert!(moment(&done, "started_at") >= run_at, "{done:#}");
    let call = rig.sandbox.calls().into_iter().find(|call| call.key.as_deref() == Some("at@example.com")).unwrap();
    assert!(i64::try_from(call.at_ms).unwrap() >= run_at.as_millisecond());
    assert!(timing(&done, "queued") >= 1000, "{done:#}");
    assert_eq!(timing(&done, "limited"), 0);

    let past = with(with(check("past", "ip"), "run_at", "1999-12-31T23:59:59.5Z"), "ttl_ms", 20_000);
    assert_eq!(rig.complete(past).await["status"], "succeeded", "the deadline counts from the later of the two");
    rig.end().await;
}

/// The last possible time overflows neither a sorted set's score nor the deadline computed from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_the_last_moment_of_all_waits_for_it() {
    let mut rig = Setup::default().start().await;
    for (id, run_at) in [("last", "9999-12-31T23:59:59.999Z"), ("beyond", "9999-12-31T23:59:59-23:59")] {
        rig.enqueue(&with(with(check(id, "ip"), "run_at", run_at), "ttl_ms", 2_592_000_000_u64)).await;
    }
    rig.enqueue(&with(check("first", "ip"), "run_at", "0000-01-01T00:00:00Z")).await;
    assert_eq!(rig.completion("first").await["status"], "succeeded");
    rig.eventually("both are parked", async |rig: &mut Rig| {
        redis::cmd("ZCARD").arg(rig.key("delayed")).query_async::<u64>(&mut rig.connection).await.unwrap() == 2
    })
    .await;
    let due: Vec<(String, f64)> = redis::cmd("ZRANGE")
        .arg(rig.key("delayed"))
        .arg("0 -1 WITHSCORES".split(' ').collect::<Vec<_>>())
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    let due: Vec<u64> = due.iter().map(|(_, due)| format!("{due:.0}").parse().unwrap()).collect();
    assert_eq!(due, [253_402_300_799_999, 253_402_387_139_000]);
    assert_eq!(rig.sandbox.stats().calls, 1);
    rig.stop_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_by_type_hold_for_the_interactive_lane_only() {
    let mut setup = Setup::default();
    setup.config.queue.ttl.insert(JobType::StartOtp, Duration::from_millis(100));
    let mut rig = setup.without_worker().await;
    rig.sandbox.seed_user(&account("k@example.com"));
    let job = |id: &str| start(id, "ip", "k@example.com");
    rig.enqueue(&job("default")).await;
    rig.enqueue(&with(job("own"), "ttl_ms", 60_000)).await;
    rig.enqueue(&check("other", "ip")).await;
    let entry = rig.enqueue_text("bulk", &job("bulk").to_string()).await;
    redis_time_passes(&mut rig, &entry, 100).await;
    rig.start_worker();
    rig.wait_for(4).await;
    assert_expired(&rig.completion("default").await, "expired");
    for id in ["own", "other", "bulk"] {
        let done = rig.completion(id).await;
        assert_eq!(done["status"], "succeeded", "{done:#}");
    }
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_when_its_time_is_up_stays_in_doubt() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::reset().on(Route::Create).after_effect());
    rig.sandbox.order(Fault::status(500).on(Route::Exists).always());
    let job = with(with(create("c", "c@example.com"), "ttl_ms", 700), "max_attempts", 100);
    let done = rig.complete(job).await;
    assert_eq!((&done["status"], &done["error"]["kind"]), (&json!("failed"), &json!("in_doubt")), "{done:#}");
    assert_eq!(done["error"]["retryable"], false);
    assert_eq!(done["dead_lettered"], true);
    assert_eq!(rig.sandbox.calls_of(Route::Create).len(), 1);
    assert!(rig.letter("c").await.is_some());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_has_a_time_of_its_own() {
    let mut rig = Setup::default().start().await;
    let child = json!({"type": "CheckUser", "ttl_ms": 60_000, "run_at": in_time(Duration::from_millis(300)),
        "args": {"email": "a@example.com"}});
    let parent = with(with(check("p", "ip"), "ttl_ms", 30_000), "next", json!({"absent": child}));
    rig.enqueue(&parent).await;
    let done = rig.completion("p/absent").await;
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert!(moment(&done, "enqueued_at") >= moment(&rig.completion("p").await, "started_at"));
    rig.end().await;
}
