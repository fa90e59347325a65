//! One id, one job: within the window a second job with the same id is dropped silently.

use super::support::{Setup, check, in_time, with};
use redis::AsyncCommands;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_job_of_the_same_id_is_dropped_while_the_first_waits_and_after_it_ended() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    let mut rig = setup.without_worker().await;
    // Another job with the same id: the id decides.
    rig.enqueue(&check("one", "ip")).await;
    rig.enqueue(&check("one", "ip")).await;
    let mut different = check("one", "another");
    different["args"]["email"] = "different@example.com".into();
    rig.enqueue(&different).await;
    rig.enqueue_text("bulk", &check("one", "ip").to_string()).await;
    rig.start_worker();
    rig.complete(check("after", "ip")).await;
    rig.enqueue(&check("one", "ip")).await;
    rig.complete(check("last", "ip")).await;
    rig.eventually("the lanes are empty", async |rig| {
        let waiting: u64 = rig.connection.xlen(rig.key("jobs:bulk")).await.unwrap();
        waiting == 0
    })
    .await;
    rig.drain().await;
    let ids: Vec<&str> = rig.completions.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(ids, ["one", "after", "last"]);
    assert_eq!(rig.sandbox.stats().calls, 3);
    assert!(rig.letters().await.is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_jobs_id_is_taken_and_outlives_its_reservation() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    // Shorter than the wait: a delayed job needs no reserved id to continue.
    setup.config.queue.dedupe_window = Duration::from_millis(600);
    let mut rig = setup.start().await;
    rig.enqueue(&with(check("parked", "ip"), "run_at", in_time(Duration::from_millis(900)))).await;
    rig.enqueue(&check("parked", "ip")).await;
    rig.complete(check("sentinel", "ip")).await;
    assert_eq!(rig.completions.len(), 1);
    let done = rig.completion("parked").await;
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert!(done["timings_ms"]["queued"].as_u64().unwrap() >= 500, "the first of the two: {done:#}");
    assert_eq!(rig.sandbox.stats().calls, 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_runs() {
    let mut rig = Setup::default().start().await;
    rig.start_worker();
    rig.start_worker();
    let key = rig.key("jobs:interactive");
    let client = redis::Client::open(rig.redis.url()).unwrap();
    let mut producers = Vec::new();
    for producer in 0..8 {
        let (client, key) = (client.clone(), key.clone());
        producers.push(tokio::spawn(async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            for number in 0..25 {
                let job = check(&format!("same-{number}"), &format!("ip-{producer}")).to_string();
                let _: String = connection.xadd(&key, "*", &[("job", job)]).await.unwrap();
            }
        }));
    }
    for producer in producers {
        producer.await.unwrap();
    }
    rig.wait_for(25).await;
    rig.eventually("the lane is empty", async |rig| {
        let waiting: u64 = rig.connection.xlen(rig.key("jobs:interactive")).await.unwrap();
        waiting == 0
    })
    .await;
    rig.drain().await;
    assert_eq!(rig.completions.len(), 25);
    assert_eq!(rig.sandbox.stats().calls, 25);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_window_an_id_is_free_again() {
    let mut setup = Setup::default();
    setup.config.queue.dedupe_window = Duration::from_millis(200);
    let mut rig = setup.start().await;
    rig.complete(check("again", "ip")).await;
    rig.eventually("the reservation ends", async |rig| rig.reserved("again").await.is_empty()).await;
    rig.completions.clear();
    rig.complete(check("again", "ip")).await;
    assert_eq!(rig.sandbox.stats().calls, 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_whose_id_is_taken_is_a_duplicate() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("taken", "ip")).await;
    let child = serde_json::json!({"id": "taken", "type": "CheckUser", "args": {"email": "a@example.com"}});
    rig.complete(with(check("parent", "ip"), "next", serde_json::json!({"absent": child}))).await;
    rig.eventually("the child is dropped", async |rig| {
        let waiting: u64 = rig.connection.xlen(rig.key("jobs:interactive")).await.unwrap();
        waiting == 0
    })
    .await;
    rig.drain().await;
    assert_eq!(rig.completions.len(), 2);
    rig.end().await;
}
