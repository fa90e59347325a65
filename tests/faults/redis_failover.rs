//! The primary is lost, hangs, or becomes a replica while jobs are running. Whatever had reached a replica ends exactly
//! once.

use super::{
    idle_budget::Rest,
    jobs::{email, ids_of, mixed, seed, start},
    kills::own_redis,
    ledger::{all_complete, assert_no_blind_repetition, calls_by_key, of, settle, tally},
    process::Process,
    producer::produce,
    sentinel::{Sentinel, primary, replica_of},
    support::{RedisServer, Rig, Setup, as_user, check},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::cmd;
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use xco_worker::sandbox::{Fault, FaultKind, Latency, Route};

const WITHIN: Duration = Duration::from_secs(10);

async fn rig(redis: RedisServer) -> Rig {
    let mut setup = Setup { redis, ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::from_millis(1), max: Duration::from_millis(30) };
    setup.without_worker().await
}

/// Enqueues each job until a replica has it, too; after the promotion, until the new primary has it. The first URL is
/// that of the primary, the others those of the replicas.
fn produce_safely(urls: Vec<String>, key: String, jobs: Vec<Value>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connection = None;
        for job in jobs {
            loop {
                if connection.is_none() {
                    connection = find_primary(&urls).await;
                }
                if let Some((open, is_first)) = &mut connection {
                    let mut asked = redis::pipe();
                    asked.cmd("XADD").arg(&key).arg("*").arg("job").arg(job.to_string()).ignore();
                    asked.cmd("WAIT").arg(u8::from(*is_first)).arg(300);
                    let kept: redis::RedisResult<(u64,)> = asked.query_async(open).await;
                    if kept.is_ok_and(|(replicas,)| replicas > 0 || !*is_first) {
                        break;
                    }
                    connection = None;
                }
                sleep(Duration::from_millis(20)).await;
            }
            sleep(Duration::from_millis(2)).await;
        }
    })
}

async fn find_primary(urls: &[String]) -> Option<(redis::aio::MultiplexedConnection, bool)> {
    for (place, url) in urls.iter().enumerate() {
        let Ok(mut connection) = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await
        else {
            continue;
        };
        let role: redis::RedisResult<redis::Value> = cmd("ROLE").query_async(&mut connection).await;
        if role.is_ok_and(|role| format!("{role:?}").contains("master")) {
            return Some((connection, place == 0));
        }
    }
    None
}

/// Runs 600 jobs through two workers, with a failover in the middle. `strike` ends the primary's service.
async fn survived(replicas: usize, durability: &str, strike: impl FnOnce(&mut RedisServer)) -> Rig {
    let primary = primary();
    let mut copies = Vec::new();
    for _ in 0..replicas {
        copies.push(replica_of(&primary).await);
    }
    let sentinel = Sentinel::over(&primary, replicas).await;
    let mut rig = rig(primary).await;
    let url = as_user(&sentinel.url(), "worker");
    let settings = [
        ("REDIS__URL", url.as_str()),
        ("REDIS__DURABILITY", durability),
        ("REDIS__RESPONSE_TIMEOUT", "1s"),
        ("WORKER__MAX_DELIVERIES", "1000"),
        ("WORKER__CONCURRENCY", "16"),
        ("QUEUE__TTL__START_OTP", "off"),
    ];
    let mut workers = [Process::ready(&rig, &settings).await, Process::ready(&rig, &settings).await];
    let jobs = mixed(&rig.sandbox, "j", 600);
    let all = ids_of(&jobs);
    let urls = std::iter::once(&rig.redis).chain(&copies).map(|server| server.url().to_owned()).collect();
    let producer = produce_safely(urls, rig.key("jobs:interactive"), jobs);
    rig.wait_for(60).await;
    strike(&mut rig.redis);
    let struck = Instant::now();
    let (promoted, _others) = sentinel.promotion(copies).await;
    let (promotion, back) = (struck.elapsed(), Instant::now());
    let before = rig.move_to(promoted).await;
    for worker in &mut workers {
        worker.until_status("/readyz", 200, WITHIN).await;
    }
    let ready = back.elapsed();
    let seen = all.clone();
    rig.follow(10, |completions| completions.iter().any(|event| seen.contains(event["id"].as_str().unwrap()))).await;
    assert!(back.elapsed() < WITHIN, "work goes on {:?} after the promotion", back.elapsed());
    producer.await.unwrap();
    all_complete(&mut rig, &all, 40).await;
    settle(&mut rig, &mut workers, &all).await;
    println!("promoted in {promotion:?}, ready {ready:?} later; {:?}", tally(&rig));
    drop(before);
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_primary_is_followed_by_its_replica() {
    survived(1, "single", RedisServer::kill).await;
}

/// Two replicas, so that one can acknowledge after the other is promoted. The hanging primary never wakes here.
#[tokio::test(flavor = "multi_thread")]
async fn with_replicated_durability_a_hanging_primary_repeats_no_unsafe_call() {
    let hang = |redis: &mut RedisServer| {
        kill(Pid::from_raw(i32::try_from(redis.pid()).unwrap()), Signal::SIGSTOP).unwrap();
    };
    let rig = survived(2, "replicated", hang).await;
    assert_no_blind_repetition(&rig);
}

/// Without a replica nothing counts as written, reading stops, and no call is made whose call marker could be lost.
#[tokio::test(flavor = "multi_thread")]
async fn replicated_durability_waits_for_a_replica() {
    let mut rig = rig(primary()).await;
    let settings = [("REDIS__DURABILITY", "replicated"), ("WORKER__CONCURRENCY", "4")];
    let mut worker = Process::ready(&rig, &settings).await;
    seed(&rig.sandbox, "s");
    rig.enqueue(&start("s")).await;
    let rest = Rest::begins(&mut worker, "no replica").await;
    rest.lasts(&mut worker, Duration::from_secs(2)).await;
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 0, "its mark has reached no replica");
    let _replica = replica_of(&rig.redis).await;
    worker.until_status("/readyz", 200, WITHIN).await;
    let done = rig.completion("s").await;
    assert_eq!(done["outcome"], "otp_sent");
    settle(&mut rig, &mut [worker], &BTreeSet::from(["s".to_owned()])).await;
    assert_eq!(calls_by_key(&rig, Route::Start)[&email("s")].len(), 1);
}

/// A replica hangs for seconds while a call waits for it. Times count from Redis's present time, not from that of the
/// question.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_for_a_replica_does_not_put_the_clock_back() {
    let mut rig = rig(primary()).await;
    let replica = replica_of(&rig.redis).await;
    let mut worker = Process::ready(&rig, &[("REDIS__DURABILITY", "replicated")]).await;
    let signal = |signal: Signal| kill(Pid::from_raw(i32::try_from(replica.pid()).unwrap()), signal).unwrap();
    let (begun, mut late) = (rig.key("begun"), start("late"));
    late["ttl_ms"] = 3_000.into();
    for job in [start("in-time"), late] {
        let id = job["id"].as_str().unwrap().to_owned();
        seed(&rig.sandbox, &id);
        signal(Signal::SIGSTOP);
        rig.enqueue(&job).await;
        rig.eventually("it is marked", async |rig| {
            cmd("HLEN").arg(&begun).query_async::<u64>(&mut rig.connection).await.unwrap() == 1
        })
        .await;
        let rest = Rest::begins(&mut worker, "no replica").await;
        rest.lasts(&mut worker, Duration::from_secs(4)).await;
        signal(Signal::SIGCONT);
        rig.completion(&id).await;
    }
    let sent = of(&rig, "in-time");
    let moment = |field: &str| sent[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert!(moment("completed_at") - moment("started_at") >= 4_000, "{sent:#}");
    assert_eq!(of(&rig, "late")["status"], "expired", "{:#}", of(&rig, "late"));
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 1);
    settle(&mut rig, &mut [worker], &BTreeSet::from(["in-time".to_owned(), "late".to_owned()])).await;
}

/// `REPLICAOF` on a running primary whose clients stay connected: reads are answered, writes refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_turns_replica_and_back_has_its_jobs_ended_once() {
    let mut rig = rig(own_redis()).await;
    let settings = [("WORKER__CONCURRENCY", "16"), ("QUEUE__TTL__START_OTP", "off")];
    let mut worker = Process::ready(&rig, &settings).await;
    let jobs = mixed(&rig.sandbox, "j", 300);
    let mut all = ids_of(&jobs);
    // It ends while Redis refuses writes. The result must be kept until it can be written.
    rig.sandbox.order(Fault::new(FaultKind::Delay(700)).on(Route::Exists).times(1));
    rig.enqueue(&check("slow", "192.0.2.1")).await;
    all.insert("slow".to_owned());
    rig.sandbox.wait_for_calls(1).await;
    produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), jobs, Duration::ZERO).await.unwrap();
    role(&mut rig, &["127.0.0.1", "1"]).await;
    let rest = Rest::begins(&mut worker, "READONLY").await;
    rest.lasts(&mut worker, Duration::from_secs(3)).await;
    role(&mut rig, &["NO", "ONE"]).await;
    let took = worker.until_status("/readyz", 200, WITHIN).await;
    all_complete(&mut rig, &all, 30).await;
    settle(&mut rig, &mut [worker], &all).await;
    assert_no_blind_repetition(&rig);
    assert_eq!(of(&rig, "slow")["attempts"], 1, "its answer was not lost");
    println!("ready {took:?} after; {:?}", tally(&rig));
}

async fn role(rig: &mut Rig, of: &[&str]) {
    let _: redis::Value = cmd("REPLICAOF").arg(of).query_async(&mut rig.connection).await.unwrap();
}
