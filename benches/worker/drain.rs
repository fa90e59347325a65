//! How fast a backlog is worked off when XCO costs nothing, and what a waiting job weighs.

use crate::{
    jobs::{self, NoOp, Running},
    server::{self, Cost, Meter, info, median},
    table::Table,
};

const CONCURRENCY: usize = 512;

pub(crate) fn measure(table: &mut Table, count: usize, rounds: usize) {
    let costs: Vec<Cost> = (0..rounds).map(|_| round(count)).collect();
    let per_s = median(costs.iter().map(|cost| count as f64 / cost.elapsed.as_secs_f64()).collect());
    let per_job = |of: fn(&Cost) -> f64| median(costs.iter().map(|cost| of(cost) / count as f64 * 1e6).collect());
    let redis_us = per_job(|cost| cost.redis_s);
    let own_us = per_job(|cost| cost.own_s);
    let what = format!("drain of {count} jobs, no-op call, concurrency {CONCURRENCY}");
    table.at_least(&what, per_s, "jobs/s", 100_000.0);
    table.figure("  Redis CPU a job", redis_us, "us");
    table.figure("  worker CPU a job", own_us, "us");
    table.figure("  Redis's share of its one core", redis_us * per_s / 1e6, "");
}

fn round(count: usize) -> Cost {
    let (server, mut connection) = server::start();
    jobs::preload(&mut connection, "drain", count);
    let config = jobs::config(server.url(), CONCURRENCY);
    let meter = Meter::start(&mut connection);
    let running = Running::start(config, |_| NoOp);
    jobs::wait_for(&mut connection, count);
    let cost = meter.stop(&mut connection);
    running.stop();
    jobs::check_all_succeeded(&mut connection, count);
    let reserved: usize = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    assert!(reserved > count, "every id is reserved: the check for duplicates was on");
    eprintln!(
        "drain: {:.0} jobs/s, Redis {:.2} us, worker {:.2} us",
        count as f64 / cost.elapsed.as_secs_f64(),
        cost.redis_s / count as f64 * 1e6,
        cost.own_s / count as f64 * 1e6
    );
    if std::env::var_os("BENCH_COMMANDSTATS").is_some() {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
        eprintln!("{stats}");
    }
    cost
}

pub(crate) fn memory(table: &mut Table, count: usize) {
    let (_server, mut connection) = server::start();
    let before = info(&mut connection, "memory", "used_memory");
    jobs::preload(&mut connection, "weigh", count);
    let after = info(&mut connection, "memory", "used_memory");
    let what = format!("Redis memory a waiting {}-byte job ({count} of them)", jobs::JOB_BYTES);
    table.at_most(&what, (after - before) / count as f64, "bytes", 420.0);
}
