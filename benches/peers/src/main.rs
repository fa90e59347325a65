//! Other queues on Redis with the task of the worker's benchmark: a backlog of 300-byte jobs that do nothing, on the
//! same Redis settings. None of them writes a completion, checks for duplicates or limits callers.

#[path = "../../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../../tests/integration/support/redis_server.rs"]
mod redis_server;
#[allow(dead_code)]
#[path = "../../../tests/integration/support/users.rs"]
mod users;
#[allow(dead_code, reason = "the worker's benchmark uses the rest of it")]
#[path = "../../worker/server.rs"]
mod server;

mod apalis_redis_peer;
mod bullmq_peer;
/// Servers in containers are for tests only: this stands in for that module.
mod container {
    #[derive(Debug)]
    pub(crate) struct RedisContainer;

    impl RedisContainer {
        pub(crate) fn start() -> Result<Self, String> {
            Err("the benchmark starts a redis-server of its own".to_owned())
        }

        pub(crate) const fn url(&self) -> &'static str {
            ""
        }
    }
}
mod sidekiq_peer;

use redis_server::RedisServer;
use server::{Cost, Meter, info, median};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Number of jobs that have run.
static DONE: AtomicUsize = AtomicUsize::new(0);

const ROUNDS: usize = 3;
const CONCURRENCY: usize = 512;

/// A payload of 300 bytes as JSON.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Payload {
    id: String,
    pad: String,
}

impl Payload {
    pub(crate) fn new(number: usize) -> Self {
        let mut payload = Self { id: format!("peer-{number:07}"), pad: String::new() };
        let empty = serde_json::to_string(&payload).unwrap().len();
        payload.pad = "x".repeat(300 - empty);
        payload
    }
}

/// Executes a job, which only counts it.
pub(crate) fn done() {
    DONE.fetch_add(1, Ordering::Relaxed);
}

/// Waits until `count` jobs have run.
pub(crate) async fn until_done(count: usize) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while DONE.load(Ordering::Relaxed) < count {
        if Instant::now() > deadline {
            return Err(format!("stuck at {} of {count}", DONE.load(Ordering::Relaxed)));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

struct Row {
    name: &'static str,
    note: &'static str,
    rounds: Vec<Result<(f64, Cost, usize), String>>,
}

macro_rules! peer {
    ($module:ident, $count:expr, $name:expr, $note:expr) => {
        Row {
            name: $name,
            note: $note,
            rounds: (0..ROUNDS).map(|_| round($count, $module::enqueue, $module::drain)).collect(),
        }
    };
}

/// Measures one backlog on a fresh Redis: bytes of a waiting job, and the cost of the drain.
fn round<E, D>(
    count: usize,
    enqueue: fn(String, usize) -> E,
    drain: fn(String, usize) -> D,
) -> Result<(f64, Cost, usize), String>
where
    E: Future<Output = usize>,
    D: Future<Output = Result<(), String>>,
{
    let (server, mut connection): (RedisServer, _) = server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    DONE.store(0, Ordering::Relaxed);
    let before = info(&mut connection, "memory", "used_memory");
    let waiting = runtime.block_on(enqueue(server.url().to_owned(), count));
    let bytes = (info(&mut connection, "memory", "used_memory") - before) / waiting as f64;
    let meter = Meter::start(&mut connection);
    let drained = runtime.block_on(drain(server.url().to_owned(), count));
    let cost = meter.stop(&mut connection);
    runtime.shutdown_timeout(Duration::from_secs(1));
    drained.map(|()| (bytes, cost, count))
}

fn main() {
    let rows = [
        peer!(
            apalis_redis_peer,
            20_000,
            "apalis-redis 1.0.0",
            "fed 2,000 at a time: a backlog beyond about 8,000 stops it for good"
        ),
        peer!(bullmq_peer, 20_000, "bullmq-official 1.4 (Rust)", ""),
        peer!(
            sidekiq_peer,
            20_000,
            "rusty-sidekiq 0.15",
            "takes a job off the queue before running it: lost if the process dies"
        ),
    ];
    println!();
    println!(
        "Other queues on the same Redis settings, no-op jobs of 300 bytes, concurrency {CONCURRENCY}, 20,000 jobs, medians of {ROUNDS};"
    );
    println!("done when the last job ran, and without completions, check for duplicates or limits:");
    println!();
    println!("{:<27} {:>8} {:>13} {:>12} {:>17}", "", "jobs/s", "Redis CPU/job", "own CPU/job", "bytes/waiting job");
    for row in rows {
        let good: Vec<_> = row.rounds.iter().filter_map(|round| round.as_ref().ok()).collect();
        if good.is_empty() {
            let why = row.rounds.first().and_then(|round| round.as_ref().err()).cloned().unwrap_or_default();
            println!("{:<27} did not finish: {why}", row.name);
            continue;
        }
        let of = |figure: fn(&(f64, Cost, usize)) -> f64| median(good.iter().map(|round| figure(round)).collect());
        println!(
            "{:<27} {:>8.0} {:>10.1} us {:>9.1} us {:>17.0}{}{}",
            row.name,
            of(|(_, cost, count)| *count as f64 / cost.elapsed.as_secs_f64()),
            of(|(_, cost, count)| cost.redis_s / *count as f64 * 1e6),
            of(|(_, cost, count)| cost.own_s / *count as f64 * 1e6),
            of(|(bytes, ..)| *bytes),
            if row.note.is_empty() { "" } else { "  " },
            row.note
        );
    }
}
