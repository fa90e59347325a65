//! A worker that sleeps for longer than its lease, and wakes.

use super::{
    jobs::{create, email, seed, start},
    kills::{ids, rig},
    ledger::{all_complete, calls_by_key, of, repeated_in_doubt, settle, unaccounted},
    process::Process,
    producer::produce,
    support::check,
};
use nix::sys::signal::Signal;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;
use xco_worker::sandbox::{Fault, FaultKind, Latency, Route};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_in_mid_call_finds_its_jobs_ended() {
    let mut rig = rig().await;
    let mut sleeper = Process::ready(&rig, &[]).await;
    seed(&rig.sandbox, "s");
    rig.sandbox.order(Fault::new(FaultKind::Delay(500)).on(Route::Start));
    rig.sandbox.order(Fault::new(FaultKind::Delay(500)).on(Route::Exists));
    rig.sandbox.order(Fault::new(FaultKind::Delay(500)).on(Route::Create));
    for job in [start("s"), check("c", "192.0.2.1"), create("u")] {
        rig.enqueue(&job).await;
    }
    rig.sandbox.wait_for_calls(3).await;
    sleeper.signal(Signal::SIGSTOP);
    let successor = Process::ready(&rig, &[]).await;
    let all = ids(["s", "c", "u"]);
    all_complete(&mut rig, &all, 15).await;
    sleeper.signal(Signal::SIGCONT);
    sleeper.until_status("/readyz", 200, Duration::from_secs(10)).await;
    settle(&mut rig, &mut [sleeper, successor], &all).await;
    assert_eq!(of(&rig, "s")["error"]["kind"], "in_doubt");
    assert_eq!(calls_by_key(&rig, Route::Start)[&email("s")].len(), 1);
    assert_eq!(of(&rig, "c")["outcome"], "absent");
    assert_eq!(of(&rig, "u")["outcome"], "already_exists");
    assert_eq!(rig.sandbox.calls_of(Route::Create).len(), 1);
}

/// A sleeping process gets the answer to its read. By the time it wakes, another worker has done those jobs.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_over_what_it_read_makes_no_call_for_it() {
    let mut rig = rig().await;
    let sleeper = Process::ready(&rig, &[]).await;
    let mut all = BTreeSet::new();
    for round in 0..3 {
        sleeper.signal(Signal::SIGSTOP);
        for n in 0..10 {
            let id = format!("s-{round}-{n}");
            seed(&rig.sandbox, &id);
            rig.enqueue(&start(&id)).await;
            all.insert(id);
        }
        let mut successor = Process::ready(&rig, &[]).await;
        all_complete(&mut rig, &all, 15).await;
        sleeper.signal(Signal::SIGCONT);
        successor.stop().await;
        // The woken worker works again.
        let id = format!("after-{round}");
        seed(&rig.sandbox, &id);
        rig.complete(start(&id)).await;
        all.insert(id);
    }
    settle(&mut rig, &mut [sleeper], &all).await;
    for id in &all {
        assert_eq!(of(&rig, id)["outcome"], "otp_sent", "{:#}", of(&rig, id));
        assert_eq!(calls_by_key(&rig, Route::Start)[&email(id)].len(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_fall_asleep_at_any_moment_repeat_nothing_in_doubt() {
    let mut rig = {
        let mut setup = super::support::Setup { redis: super::kills::own_redis(), ..Default::default() };
        setup.sandbox.latency = Latency { min: Duration::ZERO, max: Duration::from_millis(60) };
        setup.without_worker().await
    };
    // With few slots, at any time some jobs are waiting, some are admitted and some are being called.
    let settings = [("WORKER__CONCURRENCY", "4"), ("QUEUE__TTL__START_OTP", "off"), ("WORKER__MAX_DELIVERIES", "100")];
    let workers = [Process::ready(&rig, &settings).await, Process::ready(&rig, &settings).await];
    let all: BTreeSet<String> = (0..900).map(|n| format!("s{n}")).collect();
    for id in &all {
        seed(&rig.sandbox, id);
    }
    let key = rig.key("jobs:interactive");
    let producer =
        produce(&rig.redis.url_as("producer"), key, all.iter().map(|id| start(id)).collect(), Duration::from_millis(5));
    let seed = 7;
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..6 {
        let worker = &workers[round % 2];
        worker.signal(Signal::SIGSTOP);
        sleep(Duration::from_millis(rng.random_range(700..1500))).await;
        worker.signal(Signal::SIGCONT);
        sleep(Duration::from_millis(rng.random_range(0..300))).await;
    }
    producer.await.unwrap();
    all_complete(&mut rig, &all, 40).await;
    settle(&mut rig, &mut { workers }, &all).await;
    assert_eq!(repeated_in_doubt(&rig, Route::Start), 0, "seed {seed}");
    assert_eq!(unaccounted(&rig, "StartOtp", Route::Start, email), Vec::<String>::new(), "seed {seed}");
}
