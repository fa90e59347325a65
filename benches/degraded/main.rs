//! Measures what customers notice while something is degraded: a caller floods the queue, a million customers are moved
//! at the same time, XCO is down, or its limits are unknown. `make bench-trouble`, or `cargo bench --bench trouble --
//! [flags]`.
//!
//! Compares latencies within one run, with and without the degradation. A latency lasts from before the `XADD` until a
//! subscriber has the completion.
//!
//! Flags: `--only abuser,lanes,outage,unknown,partial` · `--jobs N` (of the noisy caller; default 100,000) · `--waiting
//! N` (bulk jobs; default 1,000,000) · `--seconds N` (of an outage, and under unknown limits; default 600) · `--rounds
//! N` (of partial failure; default 3).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small figures"
)]

#[allow(dead_code, reason = "a server in a container is for tests")]
#[path = "../../tests/integration/support/container.rs"]
mod container;
#[allow(dead_code, reason = "the benchmark of speed uses the rest of it")]
#[path = "../worker/jobs.rs"]
mod jobs;
mod lanes;
mod noisy_caller;
mod outage;
mod partial;
mod people;
#[path = "../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/integration/support/redis_server.rs"]
mod redis_server;
#[allow(dead_code, reason = "the benchmark of speed uses the rest of it")]
#[path = "../worker/server.rs"]
mod server;
mod stage;
mod unknown;
#[allow(dead_code)]
#[path = "../../tests/integration/support/users.rs"]
mod users;

use std::time::Duration;

struct Flags {
    only: Option<Vec<String>>,
    jobs: usize,
    waiting: usize,
    lasting: Duration,
    rounds: usize,
}

impl Flags {
    fn read() -> Self {
        let mut flags =
            Self { only: None, jobs: 100_000, waiting: 1_000_000, lasting: Duration::from_secs(600), rounds: 3 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--only" => flags.only = Some(value().split(',').map(str::to_owned).collect()),
                "--jobs" => flags.jobs = value().parse().expect("--jobs is a number"),
                "--waiting" => flags.waiting = value().parse().expect("--waiting is a number"),
                "--seconds" => flags.lasting = Duration::from_secs(value().parse().expect("--seconds is a number")),
                "--rounds" => flags.rounds = value().parse().expect("--rounds is a number"),
                // `cargo bench` adds this.
                "--bench" => {}
                _ => panic!("unknown flag {word}: there are --only, --jobs, --waiting, --seconds and --rounds"),
            }
        }
        flags
    }

    fn wants(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == what))
    }
}

fn main() {
    let flags = Flags::read();
    println!("{} cores, shared by Redis, worker, simulated XCO and producers", cores());
    println!("{}", server::PERSISTENCE);
    if flags.wants("abuser") {
        noisy_caller::measure(flags.jobs);
    }
    if flags.wants("lanes") {
        lanes::measure(flags.waiting);
    }
    if flags.wants("outage") {
        outage::measure(flags.lasting);
    }
    if flags.wants("partial") {
        partial::measure(flags.rounds);
    }
    if flags.wants("unknown") {
        unknown::measure(flags.lasting);
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}
