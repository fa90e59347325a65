//! Measures the worker: `cargo bench --bench worker`, or `make bench` with the peers for comparison.
//!
//! It starts its own Redis (append-only file, fsync every second, as in production) and prints one table, ratios first,
//! because they are comparable between machines and absolute figures are not.
//!
//! Flags: `--only drain,http,latency,memory` · `--jobs N` (of a drain) · `--rounds N` (figures are medians of N
//! rounds).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss, missing_docs)]

#[allow(dead_code, reason = "a server in a container is for tests")]
#[path = "../../tests/integration/support/container.rs"]
mod container;
mod drain;
mod http;
mod jobs;
mod latency;
#[path = "../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/integration/support/redis_server.rs"]
mod redis_server;
mod server;
mod table;
#[allow(dead_code)]
#[path = "../../tests/integration/support/users.rs"]
mod users;

use table::Table;

struct Flags {
    only: Option<Vec<String>>,
    jobs: usize,
    rounds: usize,
}

impl Flags {
    fn read() -> Self {
        let mut flags = Self { only: None, jobs: 100_000, rounds: 3 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--only" => flags.only = Some(value().split(',').map(str::to_owned).collect()),
                "--jobs" => flags.jobs = value().parse().expect("--jobs is a number"),
                "--rounds" => flags.rounds = value().parse().expect("--rounds is a number"),
                // `cargo bench` adds this.
                "--bench" => {}
                _ => panic!("unknown flag {word}: there are --only, --jobs and --rounds"),
            }
        }
        flags
    }

    fn wants(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == what))
    }
}

fn main() {
    if let Some(latency_ms) = http::sandbox_mode() {
        return http::be_the_sandbox(latency_ms);
    }
    let flags = Flags::read();
    let mut table = Table::default();
    if flags.wants("http") {
        http::measure(&mut table, 0, flags.rounds);
        http::measure(&mut table, 5, flags.rounds);
    }
    if flags.wants("drain") {
        drain::measure(&mut table, flags.jobs, flags.rounds);
    }
    if flags.wants("latency") {
        latency::measure(&mut table);
    }
    if flags.wants("memory") {
        drain::memory(&mut table, flags.jobs);
    }
    table.print();
}
