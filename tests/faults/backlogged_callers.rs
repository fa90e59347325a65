//! The largest test: twenty thousand jobs, three worker processes of which one is killed every second, and an XCO that
//! answers late, with errors, or not at all.

use super::{
    jobs::{create, email, finalize, seed, start, verify},
    kills::own_redis,
    ledger::{all_complete, assert_no_blind_repetition, calls_by_key, settle, tally, unaccounted},
    process::{Process, Settings},
    support::{Rig, Setup, check},
};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use xco_worker::sandbox::{EffectKind, Fault, FaultKind, Latency, Route};

const CHECKS: usize = 12_500;
const CREATES: usize = 3_500;
const STARTS: usize = 2_000;
const VERIFIES: usize = 1_000;
const FINALIZES: usize = 1_000;

/// Counters of the killed workers, as far as they could be read before the kill.
#[derive(Debug, Default)]
struct Toll {
    kills: usize,
    reclaimed: u64,
}

/// Runs three workers until `stop`. Kills one of them every second and starts another.
fn crew(settings: Settings, stop: CancellationToken) -> JoinHandle<(Vec<Process>, Toll)> {
    tokio::spawn(async move {
        let mut workers: Vec<Process> = (0..3).map(|_| settings.spawn()).collect();
        let mut toll = Toll::default();
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        clock.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = clock.tick() => {}
            }
            // The oldest worker: each lives for three seconds.
            let mut victim = workers.remove(0);
            toll.reclaimed += victim.counter("xco_worker_reclaimed_total").await;
            victim.kill();
            toll.kills += 1;
            workers.push(settings.spawn());
        }
        for worker in &workers {
            toll.reclaimed += worker.counter("xco_worker_reclaimed_total").await;
        }
        (workers, toll)
    })
}

fn order_faults(rig: &Rig) {
    let full =
        |after: &str| Fault::new(FaultKind::Status { status: 429, retry_after: Some(after.to_owned()), body: None });
    for (n, route) in (0..).zip([Route::Exists, Route::Start, Route::Verify]) {
        rig.sandbox.order(full("1").on(route).with_probability(0.02, 100 + n));
    }
    // These calls have no caller: each 429 stops all of them.
    rig.sandbox.order(full("0").on(Route::Create).with_probability(0.005, 110));
    rig.sandbox.order(full("0").on(Route::Consent).with_probability(0.005, 111));
    rig.sandbox.order(Fault::status(500).with_probability(0.02, 112));
    rig.sandbox.order(Fault::status(503).with_probability(0.005, 113));
    rig.sandbox.order(Fault::reset().with_probability(0.01, 114));
    rig.sandbox.order(Fault::reset().with_probability(0.005, 115).after_effect());
    rig.sandbox.order(Fault::new(FaultKind::Delay(300)).with_probability(0.01, 116));
    rig.sandbox.order(Fault::hang().with_probability(0.0005, 117).after_effect());
}

async fn enqueue_all(rig: &mut Rig, jobs: &[(&str, Value)]) {
    for chunk in jobs.chunks(500) {
        let mut pipe = redis::pipe();
        for (lane, job) in chunk {
            pipe.cmd("XADD").arg(rig.key(&format!("jobs:{lane}"))).arg("*").arg("job").arg(job.to_string()).ignore();
        }
        let () = pipe.query_async(&mut rig.connection).await.unwrap();
    }
}

fn first_wave(rig: &Rig) -> Vec<(&'static str, Value)> {
    let mut jobs = Vec::new();
    for n in 0..CHECKS {
        let lane = if n % 2 == 0 { "interactive" } else { "bulk" };
        jobs.push((lane, check(&format!("c-{n}"), &format!("c-{n}"))));
    }
    for n in 0..CREATES {
        jobs.push(("bulk", create(&format!("u-{n}"))));
    }
    for n in 0..STARTS {
        let id = format!("s-{n}");
        seed(&rig.sandbox, &id);
        jobs.push(("interactive", start(&id)));
    }
    // Mixes all types: the stride has no common factor with the length.
    (0..jobs.len()).map(|n| jobs[n * 7919 % jobs.len()].clone()).collect()
}

fn second_wave(rig: &Rig) -> Vec<(&'static str, Value)> {
    let code = |customer: &str| rig.sandbox.otp(&email(customer)).unwrap_or_else(|| "000000".to_owned());
    (0..VERIFIES)
        .map(|n| (n, true))
        .chain((VERIFIES..VERIFIES + FINALIZES).map(|n| (n, false)))
        .map(|(n, alone)| {
            let customer = format!("s-{n}");
            let code = code(&customer);
            let job = if alone {
                verify(&format!("v-{n}"), &customer, &code)
            } else {
                finalize(&format!("f-{n}"), &customer, &code)
            };
            ("interactive", job)
        })
        .collect()
}

fn ids_of(jobs: &[(&str, Value)]) -> BTreeSet<String> {
    jobs.iter().map(|(_, job)| job["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_jobs_outlive_a_worker_a_second() {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency { min: Duration::from_millis(1), max: Duration::from_millis(40) };
    let mut rig = setup.without_worker().await;
    order_faults(&rig);
    let begun = Instant::now();
    let settings = Settings::new(
        &rig,
        &[
            ("WORKER__CONCURRENCY", "32"),
            ("WORKER__LEASE", "2s"),
            // This test kills workers so often that some jobs lose their worker many times.
            ("WORKER__MAX_DELIVERIES", "1000"),
            ("XCO__TIMEOUT", "2s"),
            ("RETRY__MAX_ATTEMPTS", "50"),
            ("QUEUE__TTL__START_OTP", "off"),
            ("QUEUE__TTL__VERIFY_OTP", "off"),
        ],
    );
    let stop = CancellationToken::new();
    let crew = crew(settings, stop.clone());
    let first = first_wave(&rig);
    let mut all = ids_of(&first);
    enqueue_all(&mut rig, &first).await;
    all_complete(&mut rig, &all, 150).await;
    let second = second_wave(&rig);
    all.extend(ids_of(&second));
    enqueue_all(&mut rig, &second).await;
    all_complete(&mut rig, &all, 60).await;
    let took = begun.elapsed();
    stop.cancel();
    let (mut workers, toll) = crew.await.unwrap();
    assert_eq!(all.len(), CHECKS + CREATES + STARTS + VERIFIES + FINALIZES);

    settle(&mut rig, &mut workers, &all).await;
    assert_no_blind_repetition(&rig);
    let of_customer = |id: &str| email(&format!("s-{}", id.split_once('-').unwrap().1));
    assert_eq!(unaccounted(&rig, "VerifyOtp", Route::Verify, of_customer), Vec::<String>::new());
    for (customer, _) in calls_by_key(&rig, Route::Verify) {
        let tried = rig.sandbox.effects_on(EffectKind::CodeSpent, &customer)
            + rig.sandbox.effects_on(EffectKind::CodeTried, &customer);
        assert!(tried <= 1, "{customer}: a code was tried {tried} times");
    }

    let stats = rig.sandbox.stats();
    let faults = |name: &str| rig.sandbox.calls().iter().filter(|call| call.fault == Some(name)).count();
    let answered = |status: u16| -> u64 { stats.answers.values().filter_map(|by| by.get(&status)).sum() };
    println!("{} jobs in {:.1} s; {} workers killed; {} calls", all.len(), took.as_secs_f64(), toll.kills, stats.calls);
    println!(
        "429: {}; 500: {}; 503: {}; resets: {}; late: {}; hung: {}; unanswered: {}; taken over from the killed: {} or more",
        answered(429),
        answered(500),
        answered(503),
        faults("reset"),
        faults("delay"),
        faults("hang"),
        answered(0),
        toll.reclaimed,
    );
    println!("{:#?}", tally(&rig));
    println!("missing 0, doubled 0, unsafe calls repeated in doubt 0");
    assert!(toll.kills >= 5, "too short to mean anything: {took:?}");
}
