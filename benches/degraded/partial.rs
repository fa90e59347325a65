//! XCO partly fails: a share of its calls, or one route alone; and one route is slow.

use crate::{
    jobs::{self, LANE},
    people::{self, Waits, Watcher},
    server::median,
    stage::{self, Stage},
};
use std::time::{Duration, Instant};
use xco_worker::sandbox::{Fault, FaultKind, Route};

/// Period over which a rate is measured, after [`SETTLING`].
const WINDOW: Duration = Duration::from_secs(4);
const SETTLING: Duration = Duration::from_secs(2);
const BULK: &str = "{xco:0}:jobs:bulk";

pub(crate) fn measure(rounds: usize) {
    println!(
        "\n64 calls at once to an XCO of which a share of calls fails; completions beside those of a run without failures"
    );
    for (what, status, share, least) in
        [("500s", 500, 0.08, 0.8), ("500s", 500, 0.2, 0.8), ("500s", 500, 0.4, 0.7), ("503s", 503, 0.2, 0.5)]
    {
        let ratio = with_failures(status, share, rounds);
        println!(
            "  {:.0} % of {what}: {ratio:.2} of what the failures leave over (at least {least} is wanted)",
            share * 100.0
        );
    }
    println!("  checks of 15 ms and creations of 250 ms, half and half:");
    let ratio = median((0..rounds).map(|_| mixed(true) / mixed(false)).collect());
    println!("    {ratio:.2} of the rate without adapting (at least 0.95 is wanted)");
    beside_creations_that_fail();
    moving_knee();
}

fn completions(stage: &mut Stage) -> usize {
    redis::cmd("XLEN").arg(jobs::COMPLETIONS).query(&mut stage.redis).unwrap()
}

fn rate(stage: &mut Stage) -> f64 {
    std::thread::sleep(SETTLING);
    let (before, began) = (completions(stage), Instant::now());
    std::thread::sleep(WINDOW);
    (completions(stage) - before) as f64 / began.elapsed().as_secs_f64()
}

/// Alternates between runs with and without failures.
fn with_failures(status: u16, share: f64, rounds: usize) -> f64 {
    let mut stage = Stage::start((None, None), |_| {});
    let mut ratios = Vec::new();
    for round in 0..rounds {
        jobs::preload(&mut stage.redis, &format!("round-{round}"), 40_000);
        let without = rate(&mut stage);
        stage.sandbox.order(Fault::status(status).on(Route::Exists).with_probability(share, 7));
        let with = rate(&mut stage);
        stage.sandbox.clear_faults();
        println!("    {without:.0}/s without, {with:.0}/s with");
        assert!(stage.lane_length() > 64, "more jobs are needed");
        ratios.push(with / (without * (1.0 - share)));
        redis::cmd("XTRIM").arg(LANE).arg("MAXLEN").arg(0).exec(&mut stage.redis).unwrap();
    }
    median(ratios)
}

/// Completions per second of checks and creations, half of each.
fn mixed(adaptive: bool) -> f64 {
    const CHECK: Duration = Duration::from_millis(15);
    let mut stage = Stage::start_with_latency(CHECK, (None, None), |config| config.worker.adaptive = adaptive);
    stage.sandbox.order(Fault::new(FaultKind::Delay(235)).on(Route::Create).always());
    let both = |number| [jobs::check_user("mixed", number), create_user(number)];
    jobs::add(&mut stage.redis, LANE, (0..10_000).flat_map(both));
    let rate = rate(&mut stage);
    println!("    {rate:.0}/s, adapting: {adaptive}");
    rate
}

fn create_user(number: usize) -> String {
    format!(
        r#"{{"type":"CreateUser","id":"create-{number}","merchant_id":"6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11","args":{{"customer_reference":"ref-{number}","user":{{"email":"new-{number}@example.com"}}}}}}"#
    )
}

fn beside_creations_that_fail() {
    const PER_S: u32 = 50;
    const LASTING: Duration = Duration::from_secs(20);
    println!("  people, {PER_S}/s, while 50,000 creations of the bulk lane are all answered 500:");
    let mut stage = Stage::start((None, None), |_| {});
    let url = stage.server.url().to_owned();
    let measure = |prefix: &'static str| {
        let watcher = Watcher::start(&url, prefix);
        let sent = people::send(&url, prefix, PER_S, LASTING);
        watcher.wait_for(sent.len(), Duration::from_secs(60));
        Waits::of(&sent, &watcher.seen(), None)
    };
    let idle = measure("idle-");
    println!("{}", idle.line("idle"));
    stage.sandbox.order(Fault::status(500).on(Route::Create).always());
    jobs::add(&mut stage.redis, BULK, (0..50_000).map(create_user));
    let busy = measure("busy-");
    println!("{}", busy.line("beside them"));
    println!("    p99 over idle: {:.2} (at most 1.2 is wanted)", busy.rank(990) / idle.rank(990));
    let left: usize = redis::cmd("XLEN").arg(BULK).query(&mut stage.redis).unwrap();
    println!("    calls: {} creations; {left} left in the lane", stage.sandbox.calls_of(Route::Create).len());
}

/// XCO works on so many calls at once, and the number moves: the worker follows it, and lets no more than a few calls wait.
fn moving_knee() {
    const FOLLOWING: Duration = Duration::from_secs(12);
    println!("  XCO works on N calls at once (20 ms each), more wait; a worker that may make 64 calls at once:");
    let mut stage = Stage::start((None, None), |_| {});
    for (round, capacity) in [8, 32, 8, 24].into_iter().enumerate() {
        stage.sandbox.set_capacity(Some(capacity));
        jobs::preload(&mut stage.redis, &format!("knee-{round}"), 40_000);
        std::thread::sleep(FOLLOWING);
        let (before, began) = (completions(&mut stage), Instant::now());
        let mut under_way = Vec::new();
        while began.elapsed() < WINDOW {
            std::thread::sleep(Duration::from_millis(10));
            under_way.push(stage.sandbox.calls_under_way() as f64);
        }
        let rate = (completions(&mut stage) - before) as f64 / began.elapsed().as_secs_f64();
        let possible = capacity as f64 / stage::XCO_LATENCY.as_secs_f64();
        println!(
            "    N = {capacity}: {:.2} of what XCO can do ({rate:.0}/s), {:.0} calls at XCO (64 without adapting)",
            rate / possible,
            median(under_way)
        );
        redis::cmd("XTRIM").arg(LANE).arg("MAXLEN").arg(0).exec(&mut stage.redis).unwrap();
    }
}
