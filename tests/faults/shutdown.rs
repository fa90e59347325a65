//! SIGTERM and SIGINT.

use super::{
    jobs::{email, ids_of, seed, start},
    kills::{ids, own_redis, rig},
    ledger::{all_complete, calls_by_key, of, settle},
    process::Process,
    support::{Rig, Setup, check},
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use xco_worker::sandbox::{Fault, FaultKind, Latency, Route};

async fn pending(rig: &mut Rig) -> i64 {
    let mut pending = 0;
    for stream in ["jobs:interactive", "jobs:bulk", "due:interactive", "due:bulk"] {
        let summary: redis::Value =
            redis::cmd("XPENDING").arg(rig.key(stream)).arg("workers").query_async(&mut rig.connection).await.unwrap();
        if let redis::Value::Array(parts) = summary
            && let Some(redis::Value::Int(count)) = parts.first()
        {
            pending += count;
        }
    }
    pending
}

async fn what_a_worker_held_goes_on_at_once(signal: Signal) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(400));
    let mut rig = setup.without_worker().await;
    // A lease too long to wait for.
    let settings = [("WORKER__LEASE", "60s"), ("WORKER__CONCURRENCY", "4"), ("WORKER__SHUTDOWN_GRACE", "10s")];
    let mut first = Process::ready(&rig, &settings).await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let mut jobs = Vec::new();
    for n in 0..12 {
        let id = format!("s{n}");
        seed(&rig.sandbox, &id);
        jobs.push(("interactive", start(&id)));
        jobs.push(("interactive", check(&format!("c{n}"), &format!("192.0.2.{n}"))));
        jobs.push(("bulk", check(&format!("b{n}"), &format!("198.51.100.{n}"))));
    }
    for n in 0..5 {
        let mut later = check(&format!("later{n}"), &format!("203.0.113.{n}"));
        later["run_at"] = json!(soon.to_string());
        jobs.push(("interactive", later));
    }
    for (lane, job) in &jobs {
        rig.enqueue_text(lane, &job.to_string()).await;
    }
    let all = ids_of(&jobs.iter().map(|(_, job)| job.clone()).collect::<Vec<_>>());
    rig.sandbox.wait_for_calls(6).await;
    first.signal(signal);
    let asked = Instant::now();
    let status = first.exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3), "calls of 400 ms took {:?} to end", asked.elapsed());
    let calls = rig.sandbox.stats().calls;
    assert!(calls <= 12, "it went on taking jobs: {calls} calls");
    assert_eq!(pending(&mut rig).await, 0, "held by a worker that is gone");

    let mut second = Process::ready(&rig, &[("WORKER__LEASE", "60s")]).await;
    all_complete(&mut rig, &all, 15).await;
    settle(&mut rig, std::slice::from_mut(&mut second), &all).await;
    for id in &all {
        let event = of(&rig, id);
        assert_eq!(event["status"], "succeeded", "{event:#}");
        assert_eq!(event["attempts"], 1, "{event:#}");
    }
    for route in [Route::Exists, Route::Start] {
        for (customer, calls) in calls_by_key(&rig, route) {
            assert_eq!(calls.len(), 1, "{customer}");
        }
    }
    assert_eq!(rig.sandbox.stats().calls, all.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigterm_what_a_worker_held_goes_on_at_once() {
    what_a_worker_held_goes_on_at_once(Signal::SIGTERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigint_what_a_worker_held_goes_on_at_once() {
    what_a_worker_held_goes_on_at_once(Signal::SIGINT).await;
}

/// One call takes as long as it may. Jobs that only waited for a slot must not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_handed_back_while_a_long_call_is_still_under_way() {
    let mut rig = rig().await;
    let settings = [("WORKER__LEASE", "60s"), ("WORKER__CONCURRENCY", "2"), ("WORKER__SHUTDOWN_GRACE", "20s")];
    let mut first = Process::ready(&rig, &settings).await;
    rig.sandbox.order(Fault::hang().on(Route::Exists).times(2));
    for n in 0..20 {
        rig.enqueue(&check(&format!("c{n}"), &format!("192.0.2.{n}"))).await;
    }
    rig.sandbox.wait_for_calls(2).await;
    first.signal(Signal::SIGTERM);
    let mut second = Process::ready(&rig, &settings).await;
    rig.follow(5, |completions| completions.len() == 18).await;
    assert!(first.lives(), "its calls are still within the grace");
    // Its connections break: both calls fail, and the other worker tries them again.
    rig.sandbox.cut_connections();
    assert_eq!(first.exit(Duration::from_secs(5)).await.code(), Some(0));
    let all = (0..20).map(|n| format!("c{n}")).collect();
    all_complete(&mut rig, &all, 10).await;
    settle(&mut rig, std::slice::from_mut(&mut second), &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_longer_than_the_grace_are_cut_off() {
    let mut rig = rig().await;
    let settings = [("WORKER__LEASE", "60s"), ("WORKER__SHUTDOWN_GRACE", "500ms")];
    let mut first = Process::ready(&rig, &settings).await;
    seed(&rig.sandbox, "s");
    rig.sandbox.order(Fault::hang().on(Route::Start));
    rig.sandbox.order(Fault::hang().on(Route::Exists));
    rig.enqueue(&start("s")).await;
    rig.enqueue(&check("c", "192.0.2.1")).await;
    rig.sandbox.wait_for_calls(2).await;
    first.signal(Signal::SIGTERM);
    assert_eq!(first.exit(Duration::from_secs(5)).await.code(), Some(0));
    // The job that must not be repeated has completed; the other one is free for any worker.
    let doubtful = rig.completion("s").await;
    assert_eq!(doubtful["error"]["kind"], "in_doubt", "{doubtful:#}");
    assert_eq!(rig.completions.len(), 1);
    assert_eq!(pending(&mut rig).await, 0);
    let mut second = Process::spawn(&rig, &settings);
    let all = ids(["s", "c"]);
    all_complete(&mut rig, &all, 10).await;
    settle(&mut rig, std::slice::from_mut(&mut second), &all).await;
    assert_eq!(of(&rig, "c")["outcome"], "absent");
    assert_eq!(calls_by_key(&rig, Route::Start)[&email("s")].len(), 1);
    assert_eq!(calls_by_key(&rig, Route::Exists)[&email("c")].len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_worker_at_once() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[("WORKER__SHUTDOWN_GRACE", "60s")]).await;
    seed(&rig.sandbox, "s");
    rig.sandbox.order(Fault::hang().on(Route::Start));
    rig.sandbox.order(Fault::hang().on(Route::Exists));
    rig.enqueue(&start("s")).await;
    rig.enqueue(&check("c", "192.0.2.1")).await;
    rig.sandbox.wait_for_calls(2).await;
    first.signal(Signal::SIGTERM);
    first.until_status("/readyz", 503, Duration::from_secs(5)).await;
    first.signal(Signal::SIGINT);
    let asked = Instant::now();
    let status = first.exit(Duration::from_secs(5)).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(1));
    let mut second = Process::spawn(&rig, &[]);
    let all = ids(["s", "c"]);
    all_complete(&mut rig, &all, 10).await;
    settle(&mut rig, std::slice::from_mut(&mut second), &all).await;
    assert_eq!(of(&rig, "s")["error"]["kind"], "in_doubt");
    assert_eq!(of(&rig, "c")["outcome"], "absent");
}

/// The worker has read every job, but has few slots, when it is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_and_starting_all_the_time_repeats_no_call() {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::ZERO, max: Duration::from_millis(40) };
    let mut rig = setup.without_worker().await;
    let settings = [("WORKER__LEASE", "60s"), ("WORKER__CONCURRENCY", "8"), ("QUEUE__TTL__START_OTP", "off")];
    let mut jobs = Vec::new();
    for n in 0..600 {
        let id = format!("s{n}");
        seed(&rig.sandbox, &id);
        jobs.push(start(&id));
    }
    for job in &jobs {
        rig.enqueue(job).await;
    }
    let all = ids_of(&jobs);
    let (mut stops, mut calls) = (0, 0);
    loop {
        let mut worker = Process::spawn(&rig, &settings);
        calls = (calls + 60).min(600);
        rig.sandbox.wait_for_calls(calls).await;
        worker.stop().await;
        assert_eq!(pending(&mut rig).await, 0);
        stops += 1;
        calls = rig.sandbox.stats().calls;
        if calls >= 600 {
            break;
        }
    }
    all_complete(&mut rig, &all, 10).await;
    settle(&mut rig, &mut [], &all).await;
    assert_eq!(rig.sandbox.stats().calls, 600);
    println!("600 jobs over {stops} workers stopped one after the other");
}

/// Without Redis, jobs cannot be handed back. That must not delay the stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_redis_stops_within_its_grace() {
    let mut rig = rig().await;
    let grace = Duration::from_secs(5);
    let mut worker = Process::ready(&rig, &[("WORKER__SHUTDOWN_GRACE", "5s")]).await;
    rig.sandbox.order(Fault::new(FaultKind::Delay(3000)).on(Route::Exists));
    rig.enqueue(&check("c", "192.0.2.1")).await;
    rig.sandbox.wait_for_calls(1).await;
    rig.redis.kill();
    worker.signal(Signal::SIGTERM);
    let asked = Instant::now();
    assert_eq!(worker.exit(Duration::from_secs(20)).await.code(), Some(0));
    assert!(asked.elapsed() < grace + Duration::from_secs(2), "it took {:?}", asked.elapsed());
    println!("stopped without Redis in {:?}", asked.elapsed());
}
