//! XCO fails completely for minutes, and recovers.

use crate::{
    people::{self, Watcher},
    stage::Stage,
};
use std::time::{Duration, Instant};

const PER_S: u32 = 100;
const BEFORE: Duration = Duration::from_secs(30);
const AFTER: Duration = Duration::from_secs(60);
/// Period over which a rate is measured.
const WINDOW: Duration = Duration::from_millis(500);

pub(crate) fn measure(lasting: Duration) {
    println!("\nXCO answers every call with 503 for {} s; jobs come at {PER_S}/s all the time", lasting.as_secs());
    let stage = Stage::start((None, None), |_| {});
    let url = stage.server.url().to_owned();
    let watcher = Watcher::start(&url, "person-");
    let people = {
        let url = url.clone();
        std::thread::spawn(move || people::send(&url, "person-", PER_S, BEFORE + lasting + AFTER))
    };
    std::thread::sleep(BEFORE);
    let former_rate = watcher.count() as f64 / BEFORE.as_secs_f64();
    let calls_before = stage.sandbox.stats().calls;
    stage.sandbox.outage(503, None);
    std::thread::sleep(Duration::from_secs(2));
    let calls_at_first = stage.sandbox.stats().calls - calls_before;
    std::thread::sleep(lasting.saturating_sub(Duration::from_secs(2)));
    let calls = stage.sandbox.stats().calls - calls_before;
    stage.sandbox.end_outage();
    let back = Instant::now();
    let sent = people.join().unwrap();
    watcher.wait_for(sent.len(), Duration::from_secs(300));
    let seen = watcher.seen();
    let recovered = recovery(&seen.iter().map(|seen| seen.at).collect::<Vec<_>>(), back, former_rate);
    let failed = seen.iter().filter(|seen| !seen.succeeded).count();
    let extra: u64 = seen.iter().map(|seen| seen.attempts - 1).sum();
    let most = seen.iter().map(|seen| seen.attempts).max().unwrap_or(0);
    println!(
        "  calls in the first 2 s of it: {calls_at_first}; in the rest (looking whether XCO is back): {}",
        calls - calls_at_first
    );
    println!("  calls beyond the first, over all {} jobs: {extra}; the most that one job made: {most}", seen.len());
    println!("  jobs that failed: {failed}");
    println!("  from XCO's recovery to 90 % of the former {former_rate:.0}/s: {:.2} s", recovered.as_secs_f64());
    let caught_up = seen.iter().map(|seen| seen.at).max().unwrap() - back;
    println!("  to the last completion, everything that had waited included: {:.1} s", caught_up.as_secs_f64());
}

/// Time until the end of the first window, starting at any completion, in which nearly the former rate was reached.
fn recovery(at: &[Instant], back: Instant, former_rate: f64) -> Duration {
    let after: Vec<Instant> = at.iter().copied().filter(|at| *at >= back).collect();
    let wanted = (0.9 * former_rate * WINDOW.as_secs_f64()).ceil() as usize;
    let reached = after.windows(wanted.max(1)).find(|window| window[window.len() - 1] - window[0] <= WINDOW);
    reached.map_or(Duration::MAX, |window| window[window.len() - 1] - back)
}
