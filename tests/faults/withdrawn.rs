//! A permission is withdrawn, or a key is spoiled, briefly while jobs are running. The worker names the fault, and once
//! it is repaired every job has ended once.

use super::{
    jobs::{create, email, ids_of, seed, start},
    kills::own_redis,
    ledger::{all_complete, assert_no_blind_repetition, settle},
    process::Process,
    producer::produce,
    support::{Rig, Setup, check},
};
use redis::{AsyncCommands, Script, cmd};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use xco_worker::sandbox::{Fault, Latency, Route};

const SETTINGS: [(&str, &str); 3] =
    [("WORKER__MAX_DELIVERIES", "1000"), ("WORKER__CONCURRENCY", "16"), ("QUEUE__TTL__START_OTP", "off")];

/// One job for each path that jobs can take: immediate, delayed, retried, as a child, with and without a reply and a
/// batch, in both lanes.
fn jobs(rig: &Rig, n: usize) -> Vec<Value> {
    let mut jobs: Vec<Value> = Vec::new();
    for n in 0..n {
        let id = format!("j-{n}");
        let mut job = match n % 4 {
            0 => check(&id, &id),
            1 | 2 => {
                seed(&rig.sandbox, &id);
                start(&id)
            }
            _ => create(&id),
        };
        if n % 4 == 2 {
            let run_at = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(i64::try_from(n * 8).unwrap());
            job["run_at"] = json!(run_at.to_string());
        }
        if n % 20 == 11 {
            // Becomes a dead letter.
            job["args"] = json!({});
        }
        if n % 4 == 0 {
            // The child's customer is that of `<id>/absent`.
            job["next"] = json!({"absent": {"type": "CreateUser", "args": create(&format!("{id}/absent"))["args"]}});
        }
        if n % 2 == 0 {
            job["reply"] = json!(true);
            job["batch"] = json!("lot");
        }
        jobs.push(job);
    }
    jobs
}

async fn rig() -> Rig {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::from_millis(1), max: Duration::from_millis(30) };
    setup.without_worker().await
}

/// Waits until the worker is not ready for a reason that contains `named`.
async fn until_named(worker: &Process, named: &str) {
    let begun = Instant::now();
    loop {
        let answer = worker.get("/readyz").await;
        if answer.as_ref().is_some_and(|(status, body)| *status == 503 && body.contains(named)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {named}; {answer:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Breaks something while jobs run, until the worker names it, and repairs it. Nothing may be lost or done twice.
async fn outlasted(
    named: &str,
    fails_a_script: bool,
    spoil: impl AsyncFn(&mut Rig),
    mend: impl AsyncFn(&mut Rig),
) -> Rig {
    let mut rig = rig().await;
    // Some jobs must be retried.
    rig.sandbox.order(Fault::status(503).on(Route::Create).times(20));
    let mut worker = Process::ready(&rig, &SETTINGS).await;
    let jobs = jobs(&rig, 400);
    let mut all = ids_of(&jobs);
    all.extend(
        jobs.iter().filter(|job| job["next"].is_object()).map(|job| format!("{}/absent", job["id"].as_str().unwrap())),
    );
    let (interactive, bulk): (Vec<_>, Vec<_>) = jobs.into_iter().enumerate().partition(|(n, _)| n % 5 > 0);
    let lane = |jobs: Vec<(usize, Value)>, name: &str, pause_ms| {
        let jobs = jobs.into_iter().map(|(_, job)| job).collect();
        produce(&rig.redis.url_as("producer"), rig.key(name), jobs, Duration::from_millis(pause_ms))
    };
    let producers = [lane(interactive, "jobs:interactive", 8), lane(bulk, "jobs:bulk", 32)];
    sleep(Duration::from_millis(200)).await;
    spoil(&mut rig).await;
    until_named(&worker, named).await;
    // Running jobs have been tried by now, so a fault that is not named at once would show.
    sleep(Duration::from_millis(300)).await;
    mend(&mut rig).await;
    worker.until_status("/readyz", 200, Duration::from_secs(20)).await;
    for producer in producers {
        producer.await.unwrap();
    }
    all_complete(&mut rig, &all, 40).await;
    if fails_a_script {
        assert!(worker.counter("xco_worker_script_failures_total").await > 0, "no script failed");
    }
    rig.denials().await;
    settle(&mut rig, &mut [worker], &all).await;
    assert_no_blind_repetition(&rig);
    for event in &rig.completions {
        let number: usize = event["id"].as_str().unwrap().trim_start_matches("j-").parse().unwrap_or(0);
        let wanted = if number % 20 == 11 { "rejected" } else { "succeeded" };
        assert_eq!(event["status"], wanted, "{event:#}");
    }
    for id in all.iter().filter(|id| id.starts_with("j-")) {
        let calls = rig.sandbox.calls_of(Route::Start);
        let calls = calls.iter().filter(|call| call.key.as_deref() == Some(&email(id))).count();
        assert!(calls <= 1, "{id}: {calls} codes sent");
    }
    rig
}

async fn acl(rig: &mut Rig, rule: String) {
    let () = cmd("ACL").arg("SETUSER").arg("worker").arg(rule).query_async(&mut rig.connection).await.unwrap();
}

#[rstest::rstest]
#[case::rpush("rpush")]
#[case::xadd("xadd")]
#[case::hincrby("hincrby")]
#[case::expire("expire")]
#[case::zadd("zadd")]
#[case::xclaim("xclaim")]
#[case::zrem("zrem")]
#[case::xdel("xdel")]
#[case::hset("hset")]
#[case::hdel("hdel")]
#[case::xack("xack")]
#[case::xreadgroup("xreadgroup")]
#[tokio::test(flavor = "multi_thread")]
async fn a_command_withdrawn_for_a_moment_is_named_and_costs_no_job(#[case] command: &str) {
    let named = format!("Redis forbids {} to user worker", command.to_uppercase());
    outlasted(
        &named,
        command != "xreadgroup",
        async |rig: &mut Rig| acl(rig, format!("-{command}")).await,
        async |rig: &mut Rig| acl(rig, format!("+{command}")).await,
    )
    .await;
}

/// Renames a key and puts a string in its place; the counterpart restores it.
const SPOIL: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end \
                     redis.call('SET', KEYS[1], 'foreign')";
const MEND: &str = "redis.call('DEL', KEYS[1]) \
                    if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end";

async fn swap(rig: &mut Rig, script: &str, key: &str) {
    let key = rig.key(key);
    let kept = format!("{key}:kept");
    let () = Script::new(script).key(&key).key(kept).invoke_async(&mut rig.connection).await.unwrap();
}

#[rstest::rstest]
#[case::completions("completions")]
#[case::dead("dead")]
#[case::stats("stats")]
#[case::delayed("delayed")]
#[case::delayed_jobs("delayed:jobs")]
#[case::begun("begun")]
#[case::due_interactive("due:interactive")]
#[case::due_bulk("due:bulk")]
#[case::meta("meta")]
#[case::held("held")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_spoiled_for_a_moment_is_named_and_costs_no_job(#[case] key: &str) {
    outlasted(
        &format!("}}:{key} is a string"),
        // Rules are read by plain commands.
        key != "held",
        async |rig: &mut Rig| swap(rig, SPOIL, key).await,
        async |rig: &mut Rig| swap(rig, MEND, key).await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_count_keeps_no_job_from_its_end() {
    let mut rig = rig().await;
    let batch = rig.key("batch:lot");
    let () = rig.connection.set(&batch, "foreign").await.unwrap();
    let mut worker = Process::ready(&rig, &SETTINGS).await;
    let jobs = jobs(&rig, 40);
    let mut all = ids_of(&jobs);
    all.extend(
        jobs.iter().filter(|job| job["next"].is_object()).map(|job| format!("{}/absent", job["id"].as_str().unwrap())),
    );
    for job in &jobs {
        rig.enqueue(job).await;
    }
    all_complete(&mut rig, &all, 20).await;
    assert!(worker.counter("xco_worker_script_failures_total").await > 0, "nobody was told");
    worker.until_status("/readyz", 200, Duration::from_secs(5)).await;
    let _: u64 = rig.connection.del(&batch).await.unwrap();
    settle(&mut rig, &mut [worker], &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_endangers_jobs_and_stops_none_is_counted_while_work_goes_on() {
    let mut rig = rig().await;
    let () = cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory-policy")
        .arg("allkeys-lru")
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    let last = "18446744073709551615-18446744073709551615";
    let lane = rig.key("jobs:bulk");
    let () = cmd("XADD").arg(&lane).arg(last).arg("job").arg("{}").query_async(&mut rig.connection).await.unwrap();
    let mut worker = Process::ready(&rig, &SETTINGS).await;
    for what in ["eviction", "exhausted_stream", "persistence"] {
        let series = format!("xco_worker_preflight_findings{{what=\"{what}\"}}");
        assert_eq!(worker.counter(&series).await, 1, "{what}");
    }
    assert_eq!(worker.counter("xco_worker_preflight_findings{what=\"permission\"}").await, 0);
    let done = rig.complete(check("a", "a")).await;
    assert_eq!(done["outcome"], "absent");
    worker.stop().await;
}

#[rstest::rstest]
#[case::dead("dead")]
#[case::due_interactive("due:interactive")]
#[case::due_bulk("due:bulk")]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_the_workers_without_ids_is_named_and_nothing_is_begun(#[case] key: &str) {
    let mut rig = rig().await;
    let stream = rig.key(key);
    let last = "18446744073709551615-18446744073709551615";
    let () = cmd("XADD").arg(&stream).arg(last).arg("job").arg("{}").query_async(&mut rig.connection).await.unwrap();
    let mut worker = Process::spawn(&rig, &SETTINGS);
    rig.enqueue(&check("a", "a")).await;
    until_named(&worker, &format!("{stream} takes no more entries")).await;
    assert_eq!(rig.sandbox.stats().calls, 0);
    let _: u64 = rig.connection.del(&stream).await.unwrap();
    worker.until_status("/readyz", 200, Duration::from_secs(20)).await;
    assert_eq!(rig.completion("a").await["outcome"], "absent");
    worker.stop().await;
}
