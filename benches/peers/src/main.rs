//! Other queues on Redis with the task of the worker's benchmark: a backlog of 300-byte jobs that do nothing, on the
//! same Redis settings. None of them writes a completion, checks for duplicates or limits callers. Each runs with the
//! concurrency that suits it best.

#[path = "../../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../../tests/integration/support/redis_server.rs"]
mod redis_server;
#[allow(dead_code, reason = "the worker's benchmark uses the rest of it")]
#[path = "../../worker/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "../../../tests/integration/support/users.rs"]
mod users;

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
/// Each peer is measured with all of these.
const CONCURRENCIES: [usize; 4] = [16, 50, 128, 512];

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
    best: Result<Figures, String>,
}

/// Medians of the rounds with one concurrency.
struct Figures {
    concurrency: usize,
    jobs_s: f64,
    redis_us: f64,
    own_us: f64,
    bytes: f64,
}

impl Figures {
    fn of(concurrency: usize, rounds: &[(f64, Cost, usize)]) -> Self {
        let of = |figure: fn(&(f64, Cost, usize)) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            concurrency,
            jobs_s: of(|(_, cost, count)| *count as f64 / cost.elapsed.as_secs_f64()),
            redis_us: of(|(_, cost, count)| cost.redis_s / *count as f64 * 1e6),
            own_us: of(|(_, cost, count)| cost.own_s / *count as f64 * 1e6),
            bytes: of(|(bytes, ..)| *bytes),
        }
    }
}

macro_rules! peer {
    ($module:ident, $count:expr, $name:expr, $note:expr) => {
        Row { name: $name, note: $note, best: best($count, $module::enqueue, $module::drain) }
    };
}

/// Measures a peer with each concurrency. Returns the figures of the fastest, or why it finished with none.
fn best<E, D>(
    count: usize,
    enqueue: fn(String, usize) -> E,
    drain: fn(String, usize, usize) -> D,
) -> Result<Figures, String>
where
    E: Future<Output = usize>,
    D: Future<Output = Result<(), String>>,
{
    let mut best: Result<Figures, String> = Err("it was not run".to_owned());
    for concurrency in CONCURRENCIES {
        let rounds: Result<Vec<_>, _> = (0..ROUNDS).map(|_| round(count, concurrency, enqueue, drain)).collect();
        match (rounds.map(|rounds| Figures::of(concurrency, &rounds)), &best) {
            (Ok(figures), Ok(known)) if figures.jobs_s <= known.jobs_s => {}
            (Err(_), Ok(_)) => {}
            (measured, _) => best = measured,
        }
    }
    best
}

/// Measures one backlog on a fresh Redis: bytes of a waiting job, and the cost of the drain.
fn round<E, D>(
    count: usize,
    concurrency: usize,
    enqueue: fn(String, usize) -> E,
    drain: fn(String, usize, usize) -> D,
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
    let drained = runtime.block_on(drain(server.url().to_owned(), count, concurrency));
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
        "Other queues on the same Redis settings, no-op jobs of 300 bytes, 20,000 jobs, medians of {ROUNDS}, each with the best"
    );
    println!(
        "of the concurrencies {CONCURRENCIES:?}; done when the last job ran, and without completions, check for duplicates or limits:"
    );
    println!();
    println!(
        "{:<27} {:>11} {:>8} {:>13} {:>12} {:>17}",
        "", "concurrency", "jobs/s", "Redis CPU/job", "own CPU/job", "bytes/waiting job"
    );
    for Row { name, note, best } in rows {
        match best {
            Err(why) => println!("{name:<27} did not finish: {why}"),
            Ok(Figures { concurrency, jobs_s, redis_us, own_us, bytes }) => println!(
                "{name:<27} {concurrency:>11} {jobs_s:>8.0} {redis_us:>10.1} us {own_us:>9.1} us {bytes:>17.0}{}{note}",
                if note.is_empty() { "" } else { "  " },
            ),
        }
    }
}
