//! Measures a backfill: `make bench-backfill`, or `cargo bench --bench backfill -- --rows N --kills N`.
//!
//! One worker sends a messy file through the sandbox, and the command is killed twice. Then all counts must match
//! exactly. For comparison it measures the sandbox's capacity: a plain client loop that makes the same two calls for
//! each customer.
//!
//! With `--limit N`, `limits.total` allows N calls a second for the first ten minutes (`--limited-seconds`), and is then lifted
//! while everything runs; the first kill is in the middle of that time. The rate is compared with the limit instead of
//! with the client loop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss, missing_docs)]

mod bare;
#[path = "../support/binary.rs"]
mod binary;
mod calls;
#[allow(dead_code, reason = "a server in a container is for tests")]
#[path = "../../tests/integration/support/container.rs"]
mod container;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/integration/support/messy.rs"]
mod messy;
mod options;
#[path = "../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/integration/support/redis_server.rs"]
mod redis_server;
#[allow(dead_code)]
#[path = "../../tests/integration/support/users.rs"]
mod users;

use binary::{MERCHANT, Running, peak_kib, program};
use calls::Calls;
use messy::{MAP, Messy};
use options::{KillAt, Options};
use redis::Commands;
use redis_server::RedisServer;
use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    process::Command,
    time::{Duration, Instant},
};
use xco_worker::sandbox::{NewSandboxUser, Sandbox, SandboxConfig};

const MIB: f64 = 1_048_576.0;
const BATCH: &str = "measured";

/// Time after which the rate under a limit is measured: by then the first rows are in the queue, and the burst is spent.
const SETTLED: Duration = Duration::from_secs(5);
/// Delay between two looks at what runs.
const LOOK: Duration = Duration::from_millis(20);

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bare = options
        .limit
        .is_none()
        .then(|| runtime.block_on(bare::customers_per_second(&start_sandbox(&runtime, 0), 20_000)));
    Measurement::start(&runtime, options).run(bare);
}

fn start_sandbox(runtime: &tokio::runtime::Runtime, max_records: usize) -> Sandbox {
    let config = SandboxConfig { max_records, token_life: Duration::from_secs(3600), ..SandboxConfig::default() };
    runtime.block_on(Sandbox::start(config)).unwrap()
}

/// Everything that runs.
struct Measurement {
    options: Options,
    folder: tempfile::TempDir,
    messy: Messy,
    sandbox: Sandbox,
    redis: RedisServer,
    connection: redis::Connection,
    /// Bytes that Redis used before.
    before: f64,
    calls: Calls,
    limited: Option<Limited>,
    command_kib: u64,
}

/// The time with a limit.
struct Limited {
    limit: u64,
    until: Instant,
    /// When the measurement began, and the calls by then.
    since: Option<(Instant, u64)>,
    /// What was measured, once it is over.
    measured: Option<UnderLimit>,
}

#[derive(Clone, Copy)]
struct UnderLimit {
    calls_per_second: f64,
    most_in_a_second: u64,
    /// Rows that had ended by then.
    rows: u64,
    /// Time since the beginning.
    after: Duration,
}

impl Measurement {
    fn start(runtime: &tokio::runtime::Runtime, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut file = BufWriter::new(File::create(folder.path().join("export.csv")).unwrap());
        let messy = Messy::write(options.rows, &mut file);
        file.flush().unwrap();
        let sandbox = start_sandbox(runtime, 500_000);
        for email in messy.known() {
            sandbox.seed_user(&NewSandboxUser { email: email.clone(), ..NewSandboxUser::default() });
        }
        let redis = RedisServer::own(&["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
        let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        let before = info(&mut connection, "used_memory");
        let (calls, limited, command_kib) = (Calls::default(), None, 0);
        Self { options, folder, messy, sandbox, redis, connection, before, calls, limited, command_kib }
    }

    fn run(mut self, bare: Option<f64>) {
        let valid = self.messy.emails.len() as u64;
        let worker = Running(self.program(&["run", "--listen", "off"]).spawn().unwrap());
        let began = Instant::now();
        self.limited = self.options.limit.map(|limit| {
            let until = began + self.options.limited;
            Limited { limit, until, since: None, measured: None }
        });
        for kill in self.options.kills(valid) {
            self.command(Some(kill), began);
        }
        self.command(None, began);
        let elapsed = began.elapsed();
        self.calls.follow(&self.sandbox);
        account(&self);
        self.print(valid, elapsed, bare, peak_kib(worker.0.id()));
    }

    /// Runs the command until it is killed, or to its end.
    fn command(&mut self, kill: Option<KillAt>, began: Instant) {
        let mut args = vec!["backfill", "export.csv", "--batch", BATCH, "--json"];
        args.extend(MAP.iter().flat_map(|entry| ["--map", entry]));
        let summary = File::create(self.folder.path().join("summary")).unwrap();
        let mut run = Running(self.program(&args).stdout(summary).spawn().unwrap());
        loop {
            self.command_kib = self.command_kib.max(peak_kib(run.0.id()));
            self.calls.follow(&self.sandbox);
            self.lift_the_limit(began);
            if let Some(status) = run.0.try_wait().unwrap() {
                assert!(kill.is_none() && status.success(), "{status}");
                return;
            }
            let is_due = match kill {
                Some(KillAt::Rows(rows)) => ended(&mut self.connection) >= rows,
                Some(KillAt::After(time)) => began.elapsed() >= time,
                None => false,
            };
            if is_due {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Measures the rate under the limit, and lifts the limit at its time.
    fn lift_the_limit(&mut self, began: Instant) {
        let (now, calls) = (Instant::now(), self.calls.count());
        let Some(limited) = self.limited.as_mut().filter(|limited| limited.measured.is_none()) else { return };
        let Some((since, before)) = limited.since else {
            if calls > limited.limit * SETTLED.as_secs() {
                limited.since = Some((now, calls));
            }
            return;
        };
        if now < limited.until {
            return;
        }
        limited.measured = Some(UnderLimit {
            calls_per_second: (calls - before) as f64 / (now - since).as_secs_f64(),
            most_in_a_second: self.calls.most_in_a_second(),
            rows: ended(&mut self.connection),
            after: began.elapsed(),
        });
        let status = self.program(&["limits", "set", "total.rate", "off"]).status().unwrap();
        assert!(status.success(), "limits set: {status}");
    }

    fn print(mut self, valid: u64, elapsed: Duration, bare: Option<f64>, worker_kib: u64) {
        let Messy { rows, rejected, duplicates, .. } = self.messy;
        println!("{rows} rows: {valid} valid, {rejected} rejected, {duplicates} duplicates");
        println!(
            "killed {} times: every count adds up, every customer checked once, every row has its result",
            self.options.kills
        );
        let rate = valid as f64 / elapsed.as_secs_f64();
        println!("{rate:.0} rows/s over {:.0} s, restarts included", elapsed.as_secs_f64());
        if let Some(bare) = bare {
            println!("{:.2} of a bare client loop's {bare:.0} customers/s", rate / bare);
        }
        if let Some(Limited { limit, measured: Some(under), .. }) = self.limited {
            let UnderLimit { calls_per_second, most_in_a_second, rows, after } = under;
            println!(
                "under a limit of {limit} calls/s: {calls_per_second:.1} calls/s, {:.3} of it; at most {most_in_a_second} in any second",
                calls_per_second / limit as f64
            );
            let rest = (valid - rows) as f64 / elapsed.saturating_sub(after).as_secs_f64();
            println!("without it: {rest:.0} rows/s, restarts included");
        }
        println!(
            "peak memory of the command: {:.1} MiB ({:.0} bytes a row), of the worker: {:.1} MiB",
            self.command_kib as f64 / 1024.0,
            self.command_kib as f64 * 1024.0 / rows as f64,
            worker_kib as f64 / 1024.0
        );
        let keys = ["results", "customers", ""].map(|key| format!("{{xco:0}}:backfill:{BATCH}:{key}"));
        let [results, customers, checkpoint] = keys.map(|key| usage(&mut self.connection, key.trim_end_matches(':')));
        let completions = usage(&mut self.connection, "{xco:0}:completions");
        let used = |name: &str, connection: &mut redis::Connection| info(connection, name) - self.before;
        let (peak, end) = (used("used_memory_peak", &mut self.connection), used("used_memory", &mut self.connection));
        println!(
            "Redis, above an empty one: at most {:.1} MiB ({:.0} bytes a row), at the end {:.1} MiB",
            peak / MIB,
            peak / valid as f64,
            end / MIB
        );
        println!(
            "  of it at the end: completions {:.1} MiB, results {:.2} MiB and fingerprints {:.2} MiB ({:.1} bytes a row), checkpoint \
             {checkpoint} bytes",
            completions as f64 / MIB,
            results as f64 / MIB,
            customers as f64 / MIB,
            (results + customers) as f64 / valid as f64
        );
    }

    /// The command, configured for Redis and the sandbox.
    fn program(&self, args: &[&str]) -> Command {
        let mut command = program(&self.redis, &self.sandbox, args);
        command.current_dir(self.folder.path());
        if let Some(limit) = self.options.limit {
            command.env("XCO_WORKER__LIMITS__TOTAL__RATE", format!("{limit}/s"));
            command.env("XCO_WORKER__LIMITS__TOTAL__BURST", (limit / 10).max(1).to_string());
        }
        command
    }
}

/// Checks that all counts match: the summary, the sandbox's calls, and the files.
fn account(Measurement { folder, messy, calls, limited, .. }: &Measurement) {
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("summary")).unwrap()).unwrap();
    let (valid, known) = (messy.emails.len() as u64, messy.known().count() as u64);
    for (name, wanted) in [
        ("rows", messy.rows),
        ("valid", valid),
        ("rejected", messy.rejected),
        ("duplicates", messy.duplicates),
        ("enqueued", valid),
        ("ended", valid),
        ("pending", 0),
    ] {
        assert_eq!(told[name], wanted, "{name}: {told:#}");
    }
    assert_eq!(told["outcomes"], serde_json::json!({"created": valid - known, "needs_consent": known}));
    assert_eq!(told["complete"], true);
    calls.check(messy.emails.iter().cloned());
    assert_eq!(calls.creations, valid - known, "customers that were created twice, or not");
    if let Some(limited) = limited {
        let under =
            limited.measured.expect("the limit was lifted before the end: it takes more rows, or fewer seconds");
        let (most, allowed) = (under.most_in_a_second, limited.limit + (limited.limit / 10).max(1));
        assert!(most <= allowed, "{most} calls within a second, and at most {allowed} may be");
    }

    // Every row once in its file, with the outcome that the summary counts.
    let lines =
        |name: &str| BufReader::new(File::open(folder.path().join(name)).unwrap()).split(b'\n').map(Result::unwrap);
    let (mut references, mut outcomes) = (HashSet::new(), BTreeMap::<String, u64>::new());
    for line in lines("export.csv.results.csv").skip(1) {
        let line = String::from_utf8(line).unwrap();
        let [reference, outcome, ..] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(references.insert(reference.to_owned()), "{reference} has two results");
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
    }
    assert_eq!(references.len() as u64, valid);
    assert_eq!(serde_json::json!(outcomes), told["outcomes"]);
    let is_row = |line: &Vec<u8>| {
        let line = String::from_utf8_lossy(line);
        line.split(';').next().is_some_and(|line| line.parse::<u64>().is_ok())
    };
    assert_eq!(lines("export.csv.rejected.csv").filter(is_row).count() as u64, messy.rejected + messy.duplicates);
}

fn ended(connection: &mut redis::Connection) -> u64 {
    let ended: Option<u64> = connection.hget(format!("{{xco:0}}:backfill:{BATCH}"), "ended").unwrap();
    ended.unwrap_or(0)
}

fn usage(connection: &mut redis::Connection, key: &str) -> u64 {
    redis::cmd("MEMORY").arg("USAGE").arg(key).query::<Option<u64>>(connection).unwrap().unwrap_or(0)
}

fn info(connection: &mut redis::Connection, name: &str) -> f64 {
    let text: String = redis::cmd("INFO").arg("memory").query(connection).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("a figure of INFO").trim().parse().unwrap()
}
