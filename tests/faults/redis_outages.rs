//! Redis is present but not usable: it is loading, answers late, or not at all. The worker idles, and works again when
//! Redis does.

use super::{
    half_open_proxy::Hole,
    idle_budget::Rest,
    jobs::{ids_of, mixed},
    kills::own_redis,
    ledger::{all_complete, assert_no_blind_repetition, settle, tally},
    process::Process,
    producer::produce,
    support::{RedisServer, Rig, Setup, as_user},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::cmd;
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::task::JoinHandle;
use xco_worker::sandbox::Latency;

const WITHIN: Duration = Duration::from_secs(10);

const SETTINGS: [(&str, &str); 4] = [
    ("REDIS__RESPONSE_TIMEOUT", "500ms"),
    ("WORKER__MAX_DELIVERIES", "1000"),
    ("WORKER__CONCURRENCY", "16"),
    ("QUEUE__TTL__START_OTP", "off"),
];

async fn rig(redis: RedisServer) -> Rig {
    let mut setup = Setup { redis, ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::from_millis(1), max: Duration::from_millis(30) };
    setup.without_worker().await
}

fn jobs(rig: &Rig, n: usize) -> (Vec<Value>, BTreeSet<String>) {
    let jobs = mixed(&rig.sandbox, "j", n);
    let ids = ids_of(&jobs);
    (jobs, ids)
}

fn producer(rig: &Rig, jobs: Vec<Value>) -> JoinHandle<usize> {
    produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), jobs, Duration::from_millis(2))
}

async fn settled(mut rig: Rig, mut worker: Process, all: &BTreeSet<String>) {
    let took = worker.until_status("/readyz", 200, WITHIN).await;
    all_complete(&mut rig, all, 40).await;
    settle(&mut rig, &mut [worker], all).await;
    assert_no_blind_repetition(&rig);
    println!("ready {took:?} after; {:?}", tally(&rig));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loads_its_data_for_seconds_is_waited_for() {
    // Loading takes ten milliseconds a key, and Redis answers LOADING meanwhile.
    let slow = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"];
    let options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
    let mut rig = rig(RedisServer::own(&[&options[..], &slow[..]].concat())).await;
    let mut worker = Process::ready(&rig, &SETTINGS).await;
    // Loading the base file is slow.
    let fill = "for i = 1, 600 do redis.call('SET', 'ballast:' .. i, string.rep('x', 2000)) end";
    let _: redis::Value = cmd("EVAL").arg(fill).arg(0).query_async(&mut rig.connection).await.unwrap();
    let _: redis::Value = cmd("BGREWRITEAOF").query_async(&mut rig.connection).await.unwrap();
    rig.eventually("the base file is written", async |rig| {
        let info: String = cmd("INFO").arg("persistence").query_async(&mut rig.connection).await.unwrap();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    })
    .await;
    let (jobs, all) = jobs(&rig, 300);
    let producer = producer(&rig, jobs);
    rig.wait_for(30).await;
    rig.redis.kill();
    worker.until_status("/readyz", 503, WITHIN).await;
    rig.redis.restart();
    Rest::begins(&mut worker, "LOADING").await.lasts(&mut worker, Duration::from_secs(1)).await;
    rig.eventually("Redis has loaded", async |rig| {
        super::sentinel::ask(rig.redis.url(), cmd("STRLEN").arg("ballast:600")).await == Some(redis::Value::Int(2000))
    })
    .await;
    rig.connection = redis::Client::open(rig.redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    worker.until_status("/readyz", 200, WITHIN).await;
    producer.await.unwrap();
    settled(rig, worker, &all).await;
}

/// Stalls longer than the timeouts and the lease: first of all commands, then of writes alone.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_after_the_lease_lose_and_double_nothing() {
    let mut rig = rig(own_redis()).await;
    let mut worker = Process::ready(&rig, &SETTINGS).await;
    let (jobs, all) = jobs(&rig, 600);
    let producer = producer(&rig, jobs);
    for mode in ["ALL", "WRITE"] {
        let seen = rig.completions.len();
        rig.wait_for(seen + 60).await;
        let _: redis::Value =
            cmd("CLIENT").arg("PAUSE").arg(4500).arg(mode).query_async(&mut rig.connection).await.unwrap();
        Rest::begins(&mut worker, "").await.lasts(&mut worker, Duration::from_millis(1200)).await;
        // The pause itself is not over yet.
        worker.until_status("/readyz", 200, WITHIN + Duration::from_secs(4)).await;
    }
    producer.await.unwrap();
    settled(rig, worker, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_longer_than_every_timeout_is_come_back_to() {
    let mut rig = rig(own_redis()).await;
    let mut worker = Process::ready(&rig, &SETTINGS).await;
    let (jobs, all) = jobs(&rig, 600);
    let producer = producer(&rig, jobs);
    rig.wait_for(60).await;
    let redis = Pid::from_raw(i32::try_from(rig.redis.pid()).unwrap());
    kill(redis, Signal::SIGSTOP).unwrap();
    // Blocking reads time out after five seconds.
    Rest::begins(&mut worker, "").await.lasts(&mut worker, Duration::from_secs(7)).await;
    kill(redis, Signal::SIGCONT).unwrap();
    worker.until_status("/readyz", 200, WITHIN).await;
    producer.await.unwrap();
    settled(rig, worker, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_replaced() {
    let mut rig = rig(own_redis()).await;
    let hole = Hole::before(rig.redis.url()).await;
    let url = as_user(&hole.url(), "worker");
    let settings = [&[("REDIS__URL", url.as_str()), ("REDIS__CONNECT_TIMEOUT", "500ms")], &SETTINGS[..]].concat();
    let mut worker = Process::ready(&rig, &settings).await;
    let (jobs, all) = jobs(&rig, 600);
    let producer = producer(&rig, jobs);
    rig.wait_for(60).await;
    hole.open();
    Rest::begins(&mut worker, "").await.lasts(&mut worker, Duration::from_secs(2)).await;
    hole.close();
    worker.until_status("/readyz", 200, WITHIN).await;
    // Connections that fall silent while the server works and accepts new ones.
    hole.open();
    hole.close();
    let before = rig.completions.len();
    rig.wait_for(before + 1).await;
    producer.await.unwrap();
    println!("{} connections fell silent", hole.swallowed());
    settled(rig, worker, &all).await;
}
