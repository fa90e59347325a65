//! The dedupe window applies to the times of enqueueing, whenever jobs are looked at.

use super::{
    backfill::environment,
    support::{Rig, Setup, check, with},
};
use assert_cmd::Command;
use redis::AsyncCommands;
use serde_json::Value;
use std::time::Duration;
use tokio::time::sleep;

const WINDOW: Duration = Duration::from_millis(600);

fn operate(rig: &Rig, args: &[&str]) {
    let mut command = Command::cargo_bin("xco-worker").unwrap();
    command.env_clear().env("USER", "ada").envs(environment(rig)).args(args).assert().code(0);
}

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.config.queue.dedupe_window = WINDOW;
    setup
}

/// Enqueues a job with another time in its entry id.
async fn enqueue_at(rig: &mut Rig, lane: &str, ms: u64, job: &Value) {
    let key = rig.key(&format!("jobs:{lane}"));
    let _: String = rig.connection.xadd(key, format!("{ms}-0"), &[("job", job.to_string())]).await.unwrap();
}

async fn now_ms(rig: &mut Rig) -> u64 {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut rig.connection).await.unwrap();
    seconds * 1000 + micros / 1000
}

fn count(rig: &Rig, id: &str) -> usize {
    rig.completions.iter().filter(|event| event["id"] == id).count()
}

async fn lanes_are_empty(rig: &mut Rig) {
    rig.eventually("the lanes are empty", async |rig| {
        let mut left: u64 = 0;
        for stream in ["jobs:interactive", "jobs:bulk", "due:interactive", "due:bulk"] {
            let key = rig.key(stream);
            left += rig.connection.xlen::<_, u64>(key).await.unwrap();
        }
        left == 0
    })
    .await;
    rig.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_enqueued_within_the_window_is_a_duplicate_after_a_pause_of_its_lane_beyond_it() {
    let mut rig = setup().start().await;
    rig.complete(check("once", "ip")).await;
    operate(&rig, &["pause", "--lane", "interactive"]);
    rig.enqueue(&check("once", "ip")).await;
    // The other lane continues, and with it the clock by which ids are forgotten.
    sleep(4 * WINDOW).await;
    rig.enqueue_text("bulk", &check("other", "ip").to_string()).await;
    rig.completion("other").await;
    operate(&rig, &["resume", "--lane", "interactive"]);
    lanes_are_empty(&mut rig).await;
    assert_eq!(count(&rig, "once"), 1);
    assert_eq!(rig.sandbox.stats().calls, 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_enqueued_within_the_window_is_a_duplicate_after_an_outage_of_all_workers() {
    let mut rig = setup().start().await;
    rig.complete(check("once", "ip")).await;
    rig.stop_workers().await;
    rig.enqueue(&check("once", "ip")).await;
    sleep(4 * WINDOW).await;
    rig.start_worker();
    rig.complete(check("after", "ip")).await;
    lanes_are_empty(&mut rig).await;
    assert_eq!(count(&rig, "once"), 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::cast_possible_truncation, reason = "a time")]
async fn jobs_enqueued_further_apart_than_the_window_both_run_though_looked_at_together() {
    let mut setup = Setup::default();
    setup.config.queue.dedupe_window = Duration::from_secs(3600);
    setup.config.queue.index_retention = Duration::from_secs(24 * 3600);
    let mut rig = setup.without_worker().await;
    let now_ms = now_ms(&mut rig).await;
    let hours_ago = |hours: f64| now_ms - Duration::from_secs_f64(hours * 3600.0).as_millis() as u64;
    // The latest is looked at first.
    enqueue_at(&mut rig, "interactive", hours_ago(0.2), &check("id", "ip")).await;
    rig.start_worker();
    rig.completion("id").await;
    rig.stop_workers().await;
    for hours in [3.0, 2.5, 1.9] {
        enqueue_at(&mut rig, "bulk", hours_ago(hours), &check("id", "ip")).await;
    }
    enqueue_at(&mut rig, "bulk", hours_ago(0.5), &check("id", "ip")).await;
    rig.start_worker();
    lanes_are_empty(&mut rig).await;
    // Three hours ago, with a duplicate within an hour of that; 1.9 hours ago; 0.2 hours ago, with a duplicate before
    // it.
    assert_eq!(count(&rig, "id"), 3, "{:#?}", rig.completions);
    let values = rig.reserved("id").await;
    let holders: Vec<&str> = values.iter().filter_map(|value| value.split(' ').next()).collect();
    assert_eq!(
        holders,
        [("b", 3.0), ("b", 1.9), ("i", 0.2)].map(|(lane, hours)| format!("{lane}{}-0", hours_ago(hours)))
    );
    // Another one of any of these times is known.
    rig.complete(with(check("last", "ip"), "next", serde_json::json!({}))).await;
    assert_eq!(count(&rig, "id"), 3);
    rig.completions.clear();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_forgotten_when_nothing_can_be_their_duplicate() {
    let mut rig = setup().start().await;
    for n in 0..300 {
        rig.enqueue(&check(&format!("f{n}"), &format!("ip{n}"))).await;
    }
    rig.wait_for(300).await;
    rig.eventually("all are forgotten", async |rig| {
        let keys: Vec<String> = rig.connection.keys(rig.key("index*")).await.unwrap();
        keys.is_empty()
    })
    .await;
    rig.end().await;
}
