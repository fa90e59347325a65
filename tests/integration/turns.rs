//! The order of a caller's jobs at its limit, whatever makes some of them late.

use super::support::{Rig, Setup, check, create, limit, timing};
use redis::AsyncCommands;
use serde_json::json;
use xco_worker::{
    contract::Lane,
    sandbox::{Fault, Route, SandboxLimit},
};

/// The customers whose calls were not refused, in order of arrival.
fn called(rig: &Rig) -> Vec<String> {
    let calls = rig.sandbox.calls_of(Route::Exists);
    calls.into_iter().filter(|call| call.status != Some(429)).filter_map(|call| call.key).collect()
}

/// The addresses of the jobs that [`enqueue`] adds.
fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("w{number:02}@example.com")).collect()
}

async fn enqueue(rig: &mut Rig, numbers: std::ops::Range<usize>) {
    for number in numbers {
        rig.enqueue(&check(&format!("w{number:02}"), "ip")).await;
    }
}

async fn setup(per_s: &str) -> Rig {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    setup.config.limits.caller = Some(limit(per_s, 1));
    setup.start().await
}

/// A 429 moves the reservations of all jobs that wait. New jobs come behind them, though theirs are made at once.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_429_new_jobs_stay_behind_those_that_wait() {
    let mut rig = setup("5/s").await;
    enqueue(&mut rig, 0..1).await;
    rig.wait_for(1).await;
    rig.sandbox.order(Fault::status(429).retry_after("3"));
    enqueue(&mut rig, 1..8).await;
    rig.sandbox.wait_until(|stats| stats.answered(Route::Exists, 429) == 1).await;
    enqueue(&mut rig, 8..12).await;
    rig.wait_for(12).await;
    assert_eq!(called(&rig), addresses(12));
    let refused: Vec<_> = rig.completions.iter().filter(|event| event["attempts"] != 1).collect();
    assert_eq!(refused.len(), 1, "the refused call alone is repeated: {refused:#?}");
    rig.end().await;
}

/// The reservations of all waiting jobs have passed. The worker looks at its lane and at delayed jobs at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_waited_while_no_worker_ran_go_before_new_ones() {
    let mut rig = setup("5/s").await;
    enqueue(&mut rig, 0..8).await;
    rig.wait_for(2).await;
    rig.stop_workers().await;
    rig.drain().await;
    rig.eventually("the last reservation has passed", async |rig| {
        let delayed: Vec<(String, f64)> = rig.connection.zrange_withscores(rig.key("delayed"), -1, -1).await.unwrap();
        #[allow(clippy::cast_precision_loss)]
        let now_ms = jiff::Timestamp::now().as_millisecond() as f64;
        delayed.is_empty() || now_ms > delayed[0].1 + 1_500.0
    })
    .await;
    enqueue(&mut rig, 8..12).await;
    rig.start_worker();
    rig.wait_for(12).await;
    assert_eq!(called(&rig), addresses(12));
    rig.end().await;
}

/// A cancelled job keeps its turn, and those behind it wait no longer than they would have.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_come_holds_up_nobody() {
    let mut rig = setup("5/s").await;
    enqueue(&mut rig, 0..6).await;
    rig.eventually("five wait", async |rig| rig.connection.zcard::<_, usize>(rig.key("delayed")).await.unwrap() == 5)
        .await;
    let last: Vec<String> = rig.connection.zrange(rig.key("delayed"), -2, -1).await.unwrap();
    for origin in &last {
        rig.connection.zrem::<_, _, ()>(rig.key("delayed"), origin).await.unwrap();
        rig.connection.hdel::<_, _, ()>(rig.key("delayed:jobs"), origin).await.unwrap();
    }
    rig.wait_for(4).await;
    enqueue(&mut rig, 6..8).await;
    rig.wait_for(6).await;
    let next = rig.completion("w06").await;
    assert!(timing(&next, "limited") <= 1_500, "{next:#}");
    let wanted: Vec<String> = addresses(8)
        .into_iter()
        .enumerate()
        .filter(|(number, _)| ![4, 5].contains(number))
        .map(|(_, key)| key)
        .collect();
    assert_eq!(called(&rig), wanted);
    rig.end().await;
}

/// Jobs that were cancelled while they waited cost bulk jobs their intervals once, not each bulk job anew.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_do_not_come_hold_up_bulk_jobs_once() {
    let mut setup = Setup::default();
    setup.config.limits.client = Some(limit("10/s", 1));
    let mut rig = setup.start().await;
    let creates = |name: &'static str, count| {
        (0..count).map(move |n| create(&format!("{name}{n}"), &format!("{name}{n}@example.com")))
    };
    rig.enqueue_all(Lane::Interactive, creates("gone", 30)).await;
    rig.eventually("most of them wait", async |rig| {
        rig.connection.zcard::<_, usize>(rig.key("delayed")).await.unwrap() >= 20
    })
    .await;
    rig.connection.del::<_, ()>(&[rig.key("delayed"), rig.key("delayed:jobs")]).await.unwrap();
    rig.enqueue_all(Lane::Bulk, creates("bulk", 20)).await;
    let last = rig.completion("bulk19").await;
    // Thirty turns and twenty calls, a tenth of a second each. Each bulk job behind twenty turns would take two seconds.
    assert!(timing(&last, "total") < 10_000, "{last:#}");
    rig.end().await;
}

/// Former versions gave no turns, and let late jobs form a line of their own.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_version_left_goes_within_the_limit() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("10/s", 1));
    setup.sandbox.caller_limit = Some(SandboxLimit { per_second: 10.0, burst: 3 });
    let mut rig = setup.without_worker().await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for number in 0..6 {
        let job = check(&format!("w{number:02}"), "ip");
        let origin = format!("interactive:0:{now_ms}-{number}");
        let slot = if number < 3 { "in_line" } else { "reserved" };
        let state = json!({"o": origin, "w": ["limit", now_ms], "b": true, "h": slot, "i": true});
        rig.connection.hset::<_, _, _, ()>(rig.key("delayed:jobs"), &origin, format!("{state}\n{job}")).await.unwrap();
        rig.connection.zadd::<_, _, _, ()>(rig.key("delayed"), &origin, now_ms + 100 * number).await.unwrap();
    }
    #[allow(clippy::cast_precision_loss)]
    let at_us = |in_ms: i64| ((now_ms + in_ms) * 1_000) as f64;
    // The level is that of all reservations, and the line ends later.
    let fields: [f64; 11] = [at_us(600), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, at_us(900), 0.0, 0.0, at_us(0)];
    let bucket: Vec<u8> = fields.into_iter().flat_map(f64::to_le_bytes).collect();
    rig.connection.set_ex::<_, _, ()>(rig.key("limit:caller:ip"), bucket, 60).await.unwrap();
    enqueue(&mut rig, 6..8).await;
    rig.start_worker();
    rig.wait_for(8).await;
    // Without turns, late jobs may change places.
    let mut called = called(&rig);
    called[..6].sort();
    assert_eq!(called, addresses(8));
    assert_eq!(rig.sandbox.stats().answered(Route::Exists, 429), 0);
    for event in &rig.completions {
        assert_eq!((&event["status"], &event["attempts"]), (&json!("succeeded"), &json!(1)), "{event:#}");
    }
    let last = rig.completion("w07").await;
    assert!(timing(&last, "total") < 4_000, "{last:#}");
    rig.end().await;
}
