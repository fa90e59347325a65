//! Failures of Redis while jobs are running.

use super::{
    jobs::{ids_of, mixed},
    kills::own_redis,
    ledger::{all_complete, assert_no_blind_repetition, settle, tally},
    process::Process,
    producer::produce,
    support::{RedisServer, Rig, Setup, check},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use xco_worker::sandbox::Latency;

const LANES: [&str; 4] = ["jobs:interactive", "jobs:bulk", "due:interactive", "due:bulk"];

// A cut connection costs a delivery, which must not look like a crash loop.
const SETTINGS: [(&str, &str); 3] =
    [("WORKER__MAX_DELIVERIES", "1000"), ("WORKER__CONCURRENCY", "16"), ("QUEUE__TTL__START_OTP", "off")];

async fn rig(redis: RedisServer) -> Rig {
    let mut setup = Setup { redis, ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::from_millis(1), max: Duration::from_millis(30) };
    setup.without_worker().await
}

async fn run(rig: &mut Rig, command: &[&str]) {
    let mut cmd = redis::cmd(command[0]);
    cmd.arg(&command[1..]);
    let _: redis::Value = cmd.query_async(&mut rig.connection).await.unwrap();
}

/// Runs `n` jobs through two workers while `trouble` lasts. Then everything must be as if nothing had happened.
async fn outlasted(mut rig: Rig, n: usize, mut trouble: impl AsyncFnMut(&mut Rig, usize), times: usize) -> Rig {
    let mut workers = [Process::ready(&rig, &SETTINGS).await, Process::ready(&rig, &SETTINGS).await];
    let jobs = mixed(&rig.sandbox, "j", n);
    let all = ids_of(&jobs);
    let producer = produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), jobs, Duration::from_millis(1));
    for round in 0..times {
        sleep(Duration::from_millis(100)).await;
        trouble(&mut rig, round).await;
    }
    producer.await.unwrap();
    all_complete(&mut rig, &all, 40).await;
    for worker in &mut workers {
        worker.until_status("/readyz", 200, Duration::from_secs(10)).await;
    }
    settle(&mut rig, &mut workers, &all).await;
    assert_no_blind_repetition(&rig);
    rig
}

fn all_went_well(rig: &Rig) {
    for event in &rig.completions {
        assert_eq!(event["status"], "succeeded", "{event:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_are_loaded_again() {
    let rig = rig(own_redis()).await;
    let rig = outlasted(rig, 1200, async |rig, _| run(rig, &["SCRIPT", "FLUSH"]).await, 25).await;
    all_went_well(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_group_is_made_anew_and_nothing_is_lost() {
    let rig = rig(own_redis()).await;
    let destroy = async |rig: &mut Rig, round: usize| {
        let key = rig.key(LANES[round % 4]);
        // The busy lane is struck twice as often.
        let key = if round % 2 == 1 { rig.key("jobs:interactive") } else { key };
        run(rig, &["XGROUP", "DESTROY", &key, "workers"]).await;
    };
    let rig = outlasted(rig, 1200, destroy, 20).await;
    // No worker was lost. A worker that finds a started call leaves the job to the one that made it.
    all_went_well(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_lose_and_double_nothing() {
    let rig = rig(own_redis()).await;
    let cut = async |rig: &mut Rig, _| run(rig, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let rig = outlasted(rig, 1200, cut, 25).await;
    println!("connections killed: {:?}", tally(&rig));
}

/// Longer than the lease: after waking, any worker may take over any delivery.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_loses_and_doubles_nothing() {
    let rig = rig(own_redis()).await;
    let hang = async |rig: &mut Rig, _| {
        let redis = Pid::from_raw(i32::try_from(rig.redis.pid()).unwrap());
        kill(redis, Signal::SIGSTOP).unwrap();
        sleep(Duration::from_millis(1500)).await;
        kill(redis, Signal::SIGCONT).unwrap();
    };
    let rig = outlasted(rig, 1200, hang, 3).await;
    println!("Redis hung: {:?}", tally(&rig));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_worked_on() {
    let mut rig = rig(own_redis()).await;
    let mut workers = [Process::ready(&rig, &SETTINGS).await, Process::ready(&rig, &SETTINGS).await];
    for round in 0..4 {
        let jobs = mixed(&rig.sandbox, &format!("lost-{round}"), 120);
        let producer =
            produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), jobs, Duration::from_millis(2));
        sleep(Duration::from_millis(150)).await;
        run(&mut rig, &["FLUSHALL"]).await;
        producer.await.unwrap();
        let done = rig.complete(check(&format!("after-{round}"), "192.0.2.1")).await;
        assert_eq!(done["outcome"], "absent");
    }
    for worker in &mut workers {
        worker.stop().await;
    }
    rig.drain().await;
    rig.assert_clean().await;
    assert_no_blind_repetition(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_crashes_and_comes_back_has_lost_and_doubled_nothing() {
    let redis = RedisServer::own(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let mut rig = rig(redis).await;
    let mut worker = Process::ready(&rig, &SETTINGS).await;
    let jobs = mixed(&rig.sandbox, "j", 600);
    let all = ids_of(&jobs);
    let producer = produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), jobs, Duration::from_millis(5));
    let mut recoveries = Vec::new();
    for _ in 0..3 {
        sleep(Duration::from_millis(500)).await;
        rig.redis.kill();
        worker.until_status("/readyz", 503, Duration::from_secs(5)).await;
        sleep(Duration::from_millis(700)).await;
        assert_eq!(worker.get("/healthz").await.map(|(status, _)| status), Some(200));
        assert_eq!(worker.get("/readyz").await.map(|(status, _)| status), Some(503));
        rig.redis.restart();
        let back = Instant::now();
        worker.until_status("/readyz", 200, Duration::from_secs(10)).await;
        recoveries.push(back.elapsed());
    }
    let again = producer.await.unwrap();
    rig.connection = redis::Client::open(rig.redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    all_complete(&mut rig, &all, 40).await;
    settle(&mut rig, &mut [worker], &all).await;
    assert_no_blind_repetition(&rig);
    println!("Redis killed 3 times: ready again after {recoveries:?}, {again} enqueued again, {:?}", tally(&rig));
}
