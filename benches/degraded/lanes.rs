//! Customers at a signup page while very many jobs wait in the bulk lane.

use crate::{
    jobs,
    people::{self, Waits, Watcher},
    stage::Stage,
};
use std::time::Duration;
use xco_worker::config::WorkerConfig;

const PER_S: u32 = 50;
const LASTING: Duration = Duration::from_secs(40);
const BULK: &str = "{xco:0}:jobs:bulk";

pub(crate) fn measure(waiting: usize) {
    println!("\nInteractive jobs, {PER_S}/s, while {waiting} jobs wait in the bulk lane; 64 calls at once");
    for bulk_max_share in [WorkerConfig::default().bulk_max_share, 100] {
        println!("  of which bulk makes at most {bulk_max_share} %:");
        measure_with(waiting, bulk_max_share);
    }
}

fn measure_with(waiting: usize, bulk_max_share: u8) {
    let mut stage = Stage::start((None, None), |config| {
        config.completions.max_bytes = 64 << 20;
        config.worker.bulk_max_share = bulk_max_share;
    });
    let url = stage.server.url().to_owned();
    let watcher = Watcher::start(&url, "idle-");
    let sent = people::send(&url, "idle-", PER_S, LASTING);
    watcher.wait_for(sent.len(), Duration::from_secs(30));
    let idle = Waits::of(&sent, &watcher.seen(), None);
    drop(watcher);
    println!("{}", idle.line("idle"));

    jobs::add(&mut stage.redis, BULK, (0..waiting).map(|number| jobs::check_user("bulk", number)));
    let calls_before = stage.sandbox.stats().calls;
    let left_before: usize = redis::cmd("XLEN").arg(BULK).query(&mut stage.redis).unwrap();
    let watcher = Watcher::start(&url, "busy-");
    let sent = people::send(&url, "busy-", PER_S, LASTING);
    watcher.wait_for(sent.len(), Duration::from_secs(60));
    let busy = Waits::of(&sent, &watcher.seen(), None);
    let left: usize = redis::cmd("XLEN").arg(BULK).query(&mut stage.redis).unwrap();
    println!("{}", busy.line(&format!("with {left_before} to {left} bulk jobs waiting")));
    let calls = stage.sandbox.stats().calls - calls_before;
    println!("    {:.0} calls/s in all", calls as f64 / LASTING.as_secs_f64());
    println!("    p99 over idle: {:.2} (p50: {:.2})", busy.rank(990) / idle.rank(990), busy.rank(500) / idle.rank(500));
}
