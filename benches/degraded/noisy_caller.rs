//! A caller with very many jobs, next to a hundred callers a second with one job.

use crate::{
    jobs::{self, LANE},
    people::{self, Waits, Watcher},
    stage::{Stage, worker_limit},
};
use std::time::{Duration, Instant};
use xco_worker::sandbox::SandboxLimit;

const LIMIT: SandboxLimit = SandboxLimit { per_second: 10.0, burst: 10 };
const POLITE_PER_S: u32 = 100;
const LASTING: Duration = Duration::from_secs(60);

pub(crate) fn measure(count: usize) {
    println!("\nOne caller floods the interactive lane; XCO and worker allow each caller 10 calls/s, burst 10");
    let alone = {
        let stage = stage();
        let watcher = Watcher::start(stage.server.url(), "polite-");
        let sent = people::send(stage.server.url(), "polite-", POLITE_PER_S, LASTING);
        watcher.wait_for(sent.len(), Duration::from_secs(30));
        Waits::of(&sent, &watcher.seen(), None)
    };
    println!("{}", alone.line("polite callers alone"));
    let per_s = u32::try_from(count / 50).unwrap().max(1);
    flood(&format!("beside {count} jobs of one caller, {per_s}/s"), count, Some(per_s), &alone);
    flood(&format!("beside {count} jobs of one caller, all at once"), count, None, &alone);
}

fn stage() -> Stage {
    Stage::start((Some(LIMIT), None), |config| config.limits.caller = Some(worker_limit(LIMIT)))
}

fn flood(what: &str, count: usize, per_s: Option<u32>, alone: &Waits) {
    let mut stage = stage();
    let url = stage.server.url().to_owned();
    let watcher = Watcher::start(&url, "polite-");
    let began = Instant::now();
    let flood = {
        let url = url.clone();
        std::thread::spawn(move || abuse(&url, count, per_s))
    };
    let polite = {
        let url = url.clone();
        std::thread::spawn(move || people::send(&url, "polite-", POLITE_PER_S, LASTING))
    };
    flood.join().unwrap();
    while stage.lane_length() > 200 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let digested = Instant::now();
    let sent = polite.join().unwrap();
    watcher.wait_for(sent.len(), Duration::from_secs(60));
    let waits = Waits::of(&sent, &watcher.seen(), None);
    println!("{}", waits.line(what));
    println!("    cost at p99: {:+.2} ms", waits.rank(990) - alone.rank(990));
    if per_s.is_none() {
        println!("    enqueued and set aside within {:.2} s", (digested - began).as_secs_f64());
        let after = Waits::of(&sent, &watcher.seen(), Some(digested));
        println!("{}", after.line("  those who came after that"));
    }
    let calls = stage.sandbox.calls();
    let of_abuser: Vec<_> = calls.iter().filter(|call| call.caller_id.as_deref() == Some("abuser")).collect();
    let first = of_abuser.first().unwrap().at_us;
    let (from, to) = (first + 5_000_000, first + 55_000_000);
    let steady = of_abuser.iter().filter(|call| (from..to).contains(&call.at_us)).count();
    let refused = calls.iter().filter(|call| call.status == Some(429)).count();
    let used = 100.0 * steady as f64 / (50.0 * LIMIT.per_second);
    println!("    the abuser's calls over its allowance: {used:.1} %; 429s: {refused} of {} calls", calls.len());
}

/// Enqueues the noisy caller's jobs, pipelined.
fn abuse(url: &str, count: usize, per_s: Option<u32>) {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let start = Instant::now();
    let numbers: Vec<usize> = (0..count).collect();
    let step = if per_s.is_some() { 50 } else { 1000 };
    for chunk in numbers.chunks(step) {
        if let Some(per_s) = per_s {
            let due = start + Duration::from_secs(1) * u32::try_from(chunk[0]).unwrap() / per_s;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let job = |number: &usize| {
            format!(
                r#"{{"type":"CheckUser","id":"bot-{number}","caller_id":"abuser","args":{{"email":"bot-{number}@example.com"}}}}"#
            )
        };
        jobs::add(&mut connection, LANE, chunk.iter().map(job));
    }
}
