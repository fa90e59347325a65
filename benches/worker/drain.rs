//! Measures how fast a backlog drains when XCO costs nothing, and the memory of a waiting job.

use crate::{
    jobs::{self, NoOp, Running},
    server::{self, Cost, Meter, info, median},
    table::Table,
};

const CONCURRENCY: usize = 512;

pub(crate) fn measure(table: &mut Table, count: usize, rounds: usize) {
    let (yardsticks, costs): (Vec<f64>, Vec<Cost>) = (0..rounds).map(|_| round(count)).unzip();
    let per_s = median(costs.iter().map(|cost| count as f64 / cost.elapsed.as_secs_f64()).collect());
    let per_job = |of: fn(&Cost) -> f64| median(costs.iter().map(|cost| of(cost) / count as f64 * 1e6).collect());
    let redis_us = per_job(|cost| cost.redis_s);
    let own_us = per_job(|cost| cost.own_s);
    let what = format!("drain of {count} jobs, no-op call, concurrency {CONCURRENCY}");
    table.at_least(&what, per_s, "jobs/s", 100_000.0);
    table.figure("  Redis CPU a job", redis_us, "us");
    let yardstick_us = median(yardsticks);
    table.figure("  the same in bare pipelined XADDs of such a job", redis_us / yardstick_us, "");
    table.figure("  (Redis CPU of one such XADD)", yardstick_us, "us");
    table.figure("  worker CPU a job", own_us, "us");
    table.figure("  Redis's share of its one core", redis_us * per_s / 1e6, "");
}

/// Microseconds of Redis's CPU for enqueueing a job, and the cost of the drain.
fn round(count: usize) -> (f64, Cost) {
    let (server, mut connection) = server::start();
    let enqueueing = Meter::start(&mut connection);
    jobs::preload(&mut connection, "drain", count);
    let yardstick_us = enqueueing.stop(&mut connection).redis_s / count as f64 * 1e6;
    let config = jobs::config(server.url(), CONCURRENCY);
    let meter = Meter::start(&mut connection);
    let running = Running::start(config, |_| NoOp);
    jobs::wait_for(&mut connection, count);
    let cost = meter.stop(&mut connection);
    running.stop();
    jobs::check_all_succeeded(&mut connection, count);
    let id_bytes = forget_ids(&mut connection, count);
    eprintln!(
        "drain: {:.0} jobs/s, Redis {:.2} us, worker {:.2} us, {id_bytes:.0} bytes an id",
        count as f64 / cost.elapsed.as_secs_f64(),
        cost.redis_s / count as f64 * 1e6,
        cost.own_s / count as f64 * 1e6
    );
    if std::env::var_os("BENCH_COMMANDSTATS").is_some() {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
        eprintln!("{stats}");
    }
    (yardstick_us, cost)
}

/// Deletes the index of ids. Returns how many bytes it took for each job, in Redis's whole memory.
fn forget_ids(connection: &mut redis::Connection, count: usize) -> f64 {
    let mut slices: Vec<String> = redis::cmd("KEYS").arg("*:index:*").query(connection).unwrap();
    let reserved: Vec<usize> =
        slices.iter().map(|key| redis::cmd("HLEN").arg(key).query(connection).unwrap()).collect();
    assert_eq!(reserved.iter().sum::<usize>(), count, "every id is reserved: the check for duplicates was on");
    slices.extend(redis::cmd("KEYS").arg("*:index").query::<Vec<String>>(connection).unwrap());
    let before = info(connection, "memory", "used_memory");
    let _: usize = redis::cmd("DEL").arg(&slices).query(connection).unwrap();
    (before - info(connection, "memory", "used_memory")) / count as f64
}

pub(crate) fn memory(table: &mut Table, count: usize) {
    let (_server, mut connection) = server::start();
    let before = info(&mut connection, "memory", "used_memory");
    jobs::preload(&mut connection, "weigh", count);
    let after = info(&mut connection, "memory", "used_memory");
    let what = format!("Redis memory a waiting {}-byte job ({count} of them)", jobs::JOB_BYTES);
    table.at_most(&what, (after - before) / count as f64, "bytes", 420.0);
}
