//! A host that gives a worker too few file descriptors, or does not read its log.

use super::{
    jobs::ids_of,
    kills::own_redis,
    ledger::{all_complete, of, settle},
    process::{Process, Settings},
    support::{Rig, Setup, check},
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, timeout};
use xco_worker::sandbox::{Fault, Latency, Route};

/// A rig whose XCO takes `latency` for each call.
async fn rig(latency: Duration) -> Rig {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(latency);
    setup.without_worker().await
}

async fn enqueue_checks(rig: &mut Rig, count: usize) -> BTreeSet<String> {
    let jobs: Vec<Value> =
        (0..count).map(|n| check(&format!("c{n}"), &format!("192.0.{}.{}", n / 200, n % 200 + 1))).collect();
    for job in &jobs {
        rig.enqueue(job).await;
    }
    ids_of(&jobs)
}

async fn all_succeed(rig: &mut Rig, worker: &mut Process, ids: &BTreeSet<String>) {
    all_complete(rig, ids, 60).await;
    settle(rig, std::slice::from_mut(worker), ids).await;
    for id in ids {
        let event = of(rig, id);
        assert_eq!(event["status"], "succeeded", "{event:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_limit_of_open_files_is_raised() {
    let mut rig = rig(Duration::from_secs(3)).await;
    let settings = [("WORKER__CONCURRENCY", "300"), ("TELEMETRY__LOG", "warn")];
    let mut worker = Settings::new(&rig, &settings).after("ulimit -Sn 256").into_a_pipe().spawn().once_ready().await;
    let ids = enqueue_checks(&mut rig, 600).await;
    // More simultaneous calls than 256 open files allow.
    let under_way = rig.sandbox.wait_until(|stats| stats.calls >= stats.answered_in_all(Route::Exists) + 257);
    timeout(Duration::from_secs(30), under_way).await.unwrap();
    all_succeed(&mut rig, &mut worker, &ids).await;
    let log = worker.log();
    assert!(!log.contains("open files"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_few_open_files_fewer_calls_are_made_and_every_job_ends() {
    let mut rig = rig(Duration::from_millis(300)).await;
    let settings = [("WORKER__CONCURRENCY", "64"), ("TELEMETRY__LOG", "warn")];
    let mut worker = Settings::new(&rig, &settings).after("ulimit -n 64").into_a_pipe().spawn().once_ready().await;
    let ids = enqueue_checks(&mut rig, 460).await;
    all_succeed(&mut rig, &mut worker, &ids).await;
    let log = worker.log();
    assert!(log.contains("64 open files are too few for worker.concurrency 64"), "{log}");
    assert!(log.contains("LimitNOFILE="), "{log}");
}

/// Log level at which a pipe of 64 KiB is full after a few dozen jobs, and 8,192 lines wait behind it after two
/// thousand.
const VERBOSE: [(&str, &str); 2] = [("TELEMETRY__LOG", "trace"), ("WORKER__CONCURRENCY", "16")];

async fn into_a_full_pipe(rig: &mut Rig) -> (Process, BTreeSet<String>) {
    let worker = Settings::new(rig, &VERBOSE).into_a_pipe().spawn().once_ready().await;
    let ids = enqueue_checks(rig, 2000).await;
    all_complete(rig, &ids, 60).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while worker.counter("xco_worker_log_lines_dropped_total").await == 0 {
        assert!(Instant::now() < deadline, "no line was dropped");
    }
    (worker, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_neither_jobs_nor_the_end() {
    let mut rig = rig(Duration::ZERO).await;
    let (mut worker, ids) = into_a_full_pipe(&mut rig).await;
    all_succeed(&mut rig, &mut worker, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_counts_while_nobody_reads_the_log() {
    let mut rig = rig(Duration::ZERO).await;
    let (mut worker, ids) = into_a_full_pipe(&mut rig).await;
    rig.sandbox.order(Fault::hang());
    rig.enqueue(&check("hanging", "203.0.113.1")).await;
    rig.sandbox.wait_for_calls(ids.len() as u64 + 1).await;
    worker.signal(Signal::SIGTERM);
    worker.until_status("/readyz", 503, Duration::from_secs(5)).await;
    worker.signal(Signal::SIGTERM);
    let asked = Instant::now();
    let status = worker.exit(Duration::from_secs(5)).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}
