//! More jobs than the worker can execute: it reports this, stays ready, and its memory stays bounded.

use super::{
    jobs::ids_of,
    kills::own_redis,
    ledger::{all_complete, settle},
    process::Process,
    producer::produce,
    support::{Rig, Setup, check},
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use xco_worker::{
    contract::{Lane, Partitions},
    queue::{Connector, Keys, Load, lane_load},
    sandbox::Latency,
};

async fn rig(latency: Duration) -> Rig {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(latency);
    setup.sandbox.record_calls = false;
    setup.without_worker().await
}

async fn until_metric(worker: &Process, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !worker.get("/metrics").await.is_some_and(|(_, text)| text.lines().any(|told| told == line)) {
        assert!(Instant::now() < deadline, "never: {line}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_holds_too_much_is_alarmed_on_and_the_worker_stays_ready() {
    let mut rig = rig(Duration::from_millis(500)).await;
    let settings = [("QUEUE__MAX_PENDING", "50"), ("WORKER__CONCURRENCY", "20"), ("WORKER__ADAPTIVE", "false")];
    let jobs: Vec<_> = (0..300).map(|n| check(&format!("j{n}"), &format!("j{n}"))).collect();
    let all = ids_of(&jobs);
    produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), jobs, Duration::ZERO).await.unwrap();
    let worker = Process::ready(&rig, &settings).await;
    until_metric(&worker, r#"xco_worker_over_max_pending{lane="interactive",partition="0"} 1"#).await;
    until_metric(&worker, r#"xco_worker_over_max_pending{lane="bulk",partition="0"} 0"#).await;
    assert_eq!(worker.get("/readyz").await.map(|(status, _)| status), Some(200));
    // Programs that accept jobs from outside see the same.
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    let load = lane_load(&mut link, &keys, Lane::Interactive, Load::share(50, Partitions::ONE)).await.unwrap();
    assert!(load.is_over() && load.pending <= 300, "{load:?}");
    assert!(!lane_load(&mut link, &keys, Lane::Bulk, Load::share(50, Partitions::ONE)).await.unwrap().is_over());
    all_complete(&mut rig, &all, 30).await;
    until_metric(&worker, r#"xco_worker_over_max_pending{lane="interactive",partition="0"} 0"#).await;
    settle(&mut rig, &mut [worker], &all).await;
}

/// Adds `n` jobs to a lane, 5,000 in each round trip.
async fn heap(rig: &mut Rig, lane: &str, n: usize) {
    let key = rig.key(&format!("jobs:{lane}"));
    let filler = "x".repeat(150);
    for begin in (0..n).step_by(5000) {
        let mut batch = redis::pipe();
        for n in begin..(begin + 5000).min(n) {
            let mut job = check(&format!("{lane}-{n}"), &format!("caller-{n}"));
            job["meta"] = serde_json::json!({ "filler": filler });
            batch.cmd("XADD").arg(&key).arg("*").arg("job").arg(job.to_string()).ignore();
        }
        let () = batch.query_async(&mut rig.connection).await.unwrap();
    }
}

/// Adds `n` delayed jobs in the worker's format.
async fn park(rig: &mut Rig, n: usize) {
    let (delayed, jobs) = (rig.key("delayed"), rig.key("delayed:jobs"));
    let job: Value = check("parked", "192.0.2.1");
    for begin in (0..n).step_by(5000) {
        let mut batch = redis::pipe();
        for n in begin..(begin + 5000).min(n) {
            let origin = format!("bulk:0:{n}-0");
            batch.cmd("ZADD").arg(&delayed).arg("4102444800000").arg(&origin).ignore();
            batch.cmd("HSET").arg(&jobs).arg(&origin).arg(format!("{{}}\n{job}")).ignore();
        }
        let () = batch.query_async(&mut rig.connection).await.unwrap();
    }
}

/// Waits for `calls` more calls and returns the worker's memory.
async fn weigh(rig: &Rig, worker: &Process, calls: u64) -> Option<(u64, u64)> {
    rig.sandbox.wait_for_calls(rig.sandbox.stats().calls + calls).await;
    worker.memory_kib()
}

/// With `OVERLOAD_JOBS=1000000` it measures the documented limit; the default is quick.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_does_not_weigh_on_the_worker() {
    let waiting: usize = std::env::var("OVERLOAD_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let mut rig = rig(Duration::from_millis(50)).await;
    let worker = Process::ready(&rig, &[("WORKER__ADAPTIVE", "false"), ("WORKER__CONCURRENCY", "64")]).await;
    // Working with nothing waiting: one job for each slot, repeatedly.
    for round in 0..8 {
        let before = rig.sandbox.stats().calls;
        one_a_slot(&mut rig, round).await;
        rig.sandbox.wait_for_calls(before + 64).await;
    }
    let Some((none, none_most)) = worker.memory_kib() else { return println!("no /proc here: not measured") };
    println!("none waiting: {none} KiB, at most {none_most}");
    let mut heaviest = none;
    for lane in ["bulk", "interactive"] {
        heap(&mut rig, lane, waiting).await;
        let (now, most) = weigh(&rig, &worker, 500).await.unwrap();
        println!("{waiting} more waiting in {lane}: {now} KiB, at most {most}");
        heaviest = heaviest.max(most);
    }
    park(&mut rig, waiting / 5).await;
    let (now, most) = weigh(&rig, &worker, 500).await.unwrap();
    println!("and {} parked: {now} KiB, at most {most}", waiting / 5);
    heaviest = heaviest.max(most);
    assert!(heaviest * 10 <= none_most * 12, "{none_most} KiB without, {heaviest} KiB with what waits");
}

/// Enqueues one job for each slot.
async fn one_a_slot(rig: &mut Rig, round: usize) {
    for n in 0..64 {
        rig.enqueue(&check(&format!("warm-{round}-{n}"), &format!("warm-{n}"))).await;
    }
}
