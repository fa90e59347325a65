//! Redis's clock steps, because of NTP or a failover to another host. No job waits for the length of the step, nothing
//! late is sent, and living workers do not count as lost.

use super::{
    jobs::{seed, start},
    kills::ids,
    ledger::{all_complete, of, settle},
    process::Process,
    support::{RedisServer, Rig, ServerClock, Setup, Step, check, with},
};
use rstest::rstest;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use xco_worker::sandbox::{Fault, Latency, Route};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A rig whose Redis has a clock that can be stepped; `None` if this machine cannot do that.
async fn rig(latency: Duration) -> Option<(Rig, ServerClock)> {
    let (redis, clock) = RedisServer::own_with_clock(&["--save", "", "--appendonly", "no"])?;
    let mut setup = Setup { redis, ..Setup::default() };
    setup.sandbox.latency = Latency { min: latency, max: latency };
    Some((setup.without_worker().await, clock))
}

/// Waits until the worker has watched the clock for some time, so that it notices the next step.
async fn settled(rig: &mut Rig) {
    let key = rig.key("meta");
    let mut first = None;
    rig.eventually("the clock is looked at twice", async |rig| {
        let latest: Option<String> =
            redis::cmd("HGET").arg(&key).arg("latest_ms").query_async(&mut rig.connection).await.unwrap();
        let first = first.get_or_insert_with(|| latest.clone());
        latest.is_some() && latest != *first
    })
    .await;
}

async fn delayed(rig: &mut Rig, count: u64) {
    let key = rig.key("delayed");
    rig.eventually("delayed", async |rig| {
        redis::cmd("ZCARD").arg(&key).query_async::<u64>(&mut rig.connection).await.unwrap() == count
    })
    .await;
}

#[rstest]
#[case::back_20_s(Step::Back(Duration::from_secs(20)))]
#[case::back_10_min(Step::Back(Duration::from_secs(600)))]
#[case::back_1_h(Step::Back(Duration::from_secs(3600)))]
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_nobody_up_after_a_step_back(#[case] step: Step) {
    let Some((mut rig, clock)) = rig(Duration::ZERO).await else { return };
    let settings = [("LIMITS__TOTAL__RATE", "20/s"), ("LIMITS__TOTAL__BURST", "2")];
    let worker = Process::ready(&rig, &settings).await;
    for n in 0..10 {
        rig.enqueue(&check(&format!("before-{n}"), "a")).await;
    }
    rig.wait_for(10).await;
    clock.step(step);
    let stepped = Instant::now();
    for n in 0..10 {
        rig.enqueue(&check(&format!("after-{n}"), &format!("caller-{n}"))).await;
    }
    rig.wait_for(20).await;
    assert!(stepped.elapsed() < Duration::from_secs(8), "{:?}", stepped.elapsed());
    rig.eventually("the step is counted", async |_| worker.counter("xco_worker_clock_steps_total").await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_from_before_a_step_back_closes_for_as_long_as_it_said() {
    let Some((mut rig, clock)) = rig(Duration::ZERO).await else { return };
    let mut worker = Process::ready(&rig, &[]).await;
    settled(&mut rig).await;
    rig.sandbox.order(Fault::status(429).retry_after("2"));
    rig.enqueue(&check("met", "a")).await;
    delayed(&mut rig, 1).await;
    clock.step(Step::Back(10 * MINUTE));
    let stepped = Instant::now();
    rig.enqueue(&check("next", "a")).await;
    all_complete(&mut rig, &ids(["met", "next"]), 15).await;
    assert!(stepped.elapsed() < Duration::from_secs(10), "{:?}", stepped.elapsed());
    settle(&mut rig, std::slice::from_mut(&mut worker), &ids(["met", "next"])).await;
}

/// A retry that was delayed before the clock went back happens after its normal delay.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_does_not_wait_for_a_step_back() {
    let Some((mut rig, clock)) = rig(Duration::ZERO).await else { return };
    let mut worker = Process::ready(&rig, &[]).await;
    settled(&mut rig).await;
    rig.sandbox.order(Fault::status(503).retry_after("2"));
    rig.enqueue(&check("again", "a")).await;
    delayed(&mut rig, 1).await;
    clock.step(Step::Back(10 * MINUTE));
    let stepped = Instant::now();
    all_complete(&mut rig, &ids(["again"]), 15).await;
    assert!(stepped.elapsed() < Duration::from_secs(10), "{:?}", stepped.elapsed());
    settle(&mut rig, std::slice::from_mut(&mut worker), &ids(["again"])).await;
}

/// The clock is a day ahead for a second. Jobs delayed during that second do not wait for a day, and earlier jobs do
/// not expire.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_that_is_taken_back_delays_no_retry() {
    let Some((mut rig, clock)) = rig(Duration::ZERO).await else { return };
    let mut worker = Process::ready(&rig, &[]).await;
    settled(&mut rig).await;
    clock.step(Step::Forward(DAY));
    settled(&mut rig).await;
    rig.sandbox.order(Fault::status(503).retry_after("3"));
    rig.enqueue(&check("again", "a")).await;
    delayed(&mut rig, 1).await;
    clock.step(Step::None);
    let stepped = Instant::now();
    all_complete(&mut rig, &ids(["again"]), 20).await;
    assert!(stepped.elapsed() < Duration::from_secs(12), "{:?}", stepped.elapsed());
    settle(&mut rig, std::slice::from_mut(&mut worker), &ids(["again"])).await;
}

/// The code arrives late by the time that really passed, whatever the clock shows.
#[rstest]
#[case::read_and_delayed(&["--type", "StartOtp"])]
#[case::never_read(&["--lane", "interactive"])]
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_not_extended_by_a_step_back(#[case] pause: &[&str]) {
    let Some((mut rig, clock)) = rig(Duration::ZERO).await else { return };
    let mut worker = Process::ready(&rig, &[]).await;
    operate(&rig, "pause", pause);
    // The worker looks at the rules twice a second, and at the clock every second.
    sleep(Duration::from_millis(1_500)).await;
    seed(&rig.sandbox, "s");
    rig.enqueue(&with(start("s"), "ttl_ms", 4_000)).await;
    settled(&mut rig).await;
    settled(&mut rig).await;
    clock.step(Step::Back(10 * MINUTE));
    sleep(Duration::from_secs(4)).await;
    operate(&rig, "resume", pause);
    all_complete(&mut rig, &ids(["s"]), 15).await;
    assert_eq!(of(&rig, "s")["status"], "expired", "{:#}", of(&rig, "s"));
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 0);
    settle(&mut rig, std::slice::from_mut(&mut worker), &ids(["s"])).await;
}

/// Runs a command as an operator.
fn operate(rig: &Rig, command: &str, arguments: &[&str]) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_xco-worker"))
        .arg(command)
        .args(arguments)
        .env("XCO_WORKER__REDIS__URL", rig.redis.url())
        .env("XCO_WORKER__REDIS__NAMESPACE", &rig.config.redis.namespace)
        .output()
        .unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A producer whose clock counts microseconds damages its lane: Redis gives every later entry an id beyond that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_from_the_future_counts_from_when_its_jobs_were_first_seen() {
    let Some((mut rig, _clock)) = rig(Duration::ZERO).await else { return };
    let mut worker = Process::ready(&rig, &[]).await;
    settled(&mut rig).await;
    let key = rig.key("jobs:interactive");
    let micros = "1795748202763061-0";
    redis::cmd("XADD")
        .arg(&key)
        .arg(micros)
        .arg("job")
        .arg(check("poison", "a").to_string())
        .exec_async(&mut rig.connection)
        .await
        .unwrap();
    // A short ttl, and an XCO that fails for longer than that.
    rig.completion("poison").await;
    rig.sandbox.order(Fault::status(503).always());
    let enqueued = Instant::now();
    rig.enqueue(&with(with(check("late", "b"), "ttl_ms", 1_500), "max_attempts", 100)).await;
    let late = rig.completion("late").await;
    assert_eq!(late["status"], "expired", "{late:#}");
    assert!(enqueued.elapsed() < Duration::from_secs(8), "{:?}", enqueued.elapsed());
    let total = late["timings_ms"]["total"].as_u64().unwrap();
    assert!((300..8_000).contains(&total), "{late:#}");
    let at: jiff::Timestamp = late["enqueued_at"].as_str().unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - at.as_second()).abs() < 20, "{late:#}");
    assert_eq!(worker.counter("xco_worker_entries_from_the_future_total").await, 2);
    settle(&mut rig, std::slice::from_mut(&mut worker), &ids(["poison", "late"])).await;
}

/// A backward step makes idle times negative. The job of a killed worker is still taken over.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_job_is_taken_over_after_a_step_back() {
    let Some((mut rig, clock)) = rig(Duration::ZERO).await else { return };
    let mut first = Process::ready(&rig, &[]).await;
    rig.sandbox.order(Fault::hang().on(Route::Exists));
    rig.enqueue(&check("c", "a")).await;
    rig.sandbox.wait_for_calls(1).await;
    let mut second = Process::ready(&rig, &[]).await;
    settled(&mut rig).await;
    first.kill();
    clock.step(Step::Back(10 * MINUTE));
    let killed = Instant::now();
    all_complete(&mut rig, &ids(["c"]), 15).await;
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    settle(&mut rig, std::slice::from_mut(&mut second), &ids(["c"])).await;
}

/// A forward step makes living workers look idle. They renew their leases before another worker takes over.
#[tokio::test(flavor = "multi_thread")]
async fn the_living_are_not_taken_for_dead_after_a_step_forward() {
    let Some((mut rig, clock)) = rig(Duration::from_millis(2_500)).await else { return };
    let settings = [("WORKER__LEASE", "3s"), ("QUEUE__TTL__START_OTP", "off")];
    let mut workers = [Process::ready(&rig, &settings).await, Process::ready(&rig, &settings).await];
    settled(&mut rig).await;
    let all: std::collections::BTreeSet<String> = (0..8).map(|n| format!("s{n}")).collect();
    for id in &all {
        seed(&rig.sandbox, id);
        rig.enqueue(&start(id)).await;
    }
    rig.sandbox.wait_for_calls(8).await;
    clock.step(Step::Forward(MINUTE));
    all_complete(&mut rig, &all, 20).await;
    for id in &all {
        assert_eq!(of(&rig, id)["outcome"], "otp_sent", "{:#}", of(&rig, id));
    }
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), all.len());
    settle(&mut rig, &mut workers, &all).await;
}

/// An XCO without a clock: answers 429 once, with a date in `Retry-After` and without `Date`, then 200.
async fn dated_429(date: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let _ = stream.read(&mut request).await;
            let answer = if std::mem::take(&mut first) {
                format!(
                    "HTTP/1.1 429 Too Many Requests\r\nretry-after: {date}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                )
            } else {
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 33\r\n\r\n{\"exists\":false,\"token_count\":0}\n".to_owned()
            };
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("http://{address}/")
}

/// The worker's own clock is two hours behind Redis's. A date counts from Redis's clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_date_in_retry_after_counts_from_rediss_clock() {
    let Some((mut rig, clock)) = rig(Duration::ZERO).await else { return };
    let ahead = Duration::from_secs(7200);
    clock.step(Step::Forward(ahead));
    let until = std::time::SystemTime::now() + ahead + Duration::from_secs(3);
    let base_url = dated_429(httpdate::fmt_http_date(until)).await;
    let worker = Process::ready(&rig, &[("XCO__BASE_URL", &base_url)]).await;
    settled(&mut rig).await;
    let asked = Instant::now();
    rig.enqueue(&check("c", "a")).await;
    let event = rig.completion("c").await;
    assert_eq!(event["outcome"], "absent", "{event:#}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!(event["attempts"], 2);
    settle(&mut rig, &mut [worker], &ids(["c"])).await;
}
