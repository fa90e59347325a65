//! Measures a backfill: `make bench-backfill`, or `cargo bench --bench backfill -- --rows N`.
//!
//! One worker sends a messy file through the sandbox, and the command is killed twice. Then all counts must match
//! exactly. For comparison it measures the sandbox's capacity: a plain client loop that makes the same two calls for
//! each customer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss, missing_docs)]

mod bare;
#[allow(dead_code, reason = "a server in a container is for tests")]
#[path = "../../tests/integration/support/container.rs"]
mod container;
#[path = "../../tests/integration/support/messy.rs"]
mod messy;
#[path = "../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/integration/support/redis_server.rs"]
mod redis_server;
#[allow(dead_code)]
#[path = "../../tests/integration/support/users.rs"]
mod users;

use messy::{MAP, Messy};
use redis::Commands;
use redis_server::RedisServer;
use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use xco_worker::sandbox::{NewSandboxUser, Route, Sandbox, SandboxConfig};

const MERCHANT: &str = "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11";
const MIB: f64 = 1_048_576.0;
const BATCH: &str = "measured";

/// A child process, killed at the latest when its owner is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let mut rows = 200_000;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rows" => rows = words.next().and_then(|rows| rows.parse().ok()).expect("--rows N"),
            // `cargo bench` adds this.
            "--bench" => {}
            _ => panic!("unknown flag {word}: there is --rows"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bare = runtime.block_on(bare::customers_per_second(&start_sandbox(&runtime, 0), 20_000));
    measure(&runtime, rows, bare);
}

fn start_sandbox(runtime: &tokio::runtime::Runtime, max_records: usize) -> Sandbox {
    let config = SandboxConfig { max_records, token_life: Duration::from_secs(3600), ..SandboxConfig::default() };
    runtime.block_on(Sandbox::start(config)).unwrap()
}

fn measure(runtime: &tokio::runtime::Runtime, rows: u64, bare: f64) {
    let folder = tempfile::tempdir().unwrap();
    let mut file = BufWriter::new(File::create(folder.path().join("export.csv")).unwrap());
    let messy = Messy::write(rows, &mut file);
    file.flush().unwrap();
    drop(file);
    let sandbox = start_sandbox(runtime, 10_000_000);
    for email in messy.known() {
        sandbox.seed_user(&NewSandboxUser { email: email.clone(), ..NewSandboxUser::default() });
    }
    let redis = RedisServer::own(&["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let before = info(&mut connection, "used_memory");
    let _worker = Running(program(folder.path(), &redis, &sandbox, &["run", "--listen", "off"]).spawn().unwrap());

    let mut args = vec!["backfill", "export.csv", "--batch", BATCH, "--json"];
    args.extend(MAP.iter().flat_map(|entry| ["--map", entry]));
    let valid = messy.emails.len() as u64;
    let began = Instant::now();
    let mut peak_kib = 0;
    for kill_at in [Some(valid / 3), Some(2 * valid / 3), None] {
        let mut run = program(folder.path(), &redis, &sandbox, &args);
        let summary = File::create(folder.path().join("summary")).unwrap();
        let mut run = Running(run.stdout(summary).spawn().unwrap());
        loop {
            peak_kib = peak_kib.max(peak_of(run.0.id()));
            if let Some(status) = run.0.try_wait().unwrap() {
                assert!(kill_at.is_none() && status.success(), "{status}");
                break;
            }
            if kill_at.is_some_and(|at| ended(&mut connection) >= at) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let elapsed = began.elapsed();
    account(&folder.path().join("summary"), &messy, &sandbox);

    let rate = valid as f64 / elapsed.as_secs_f64();
    let keys = ["backfill:measured:results", "backfill:measured"];
    let [results, checkpoint] = keys.map(|key| usage(&mut connection, &format!("{{xco:0}}:{key}")));
    let completions = usage(&mut connection, "{xco:0}:completions");
    let peak = info(&mut connection, "used_memory_peak") - before;
    println!("{} rows: {valid} valid, {} rejected, {} duplicates", messy.rows, messy.rejected, messy.duplicates);
    println!("killed twice: every count adds up, every customer checked once, every row has its result");
    println!("{rate:.0} rows/s over {:.0} s, restarts included", elapsed.as_secs_f64());
    println!("{:.2} of a bare client loop's {bare:.0} customers/s", rate / bare);
    println!(
        "peak memory of the command: {:.1} MiB ({:.0} bytes a row)",
        peak_kib as f64 / 1024.0,
        peak_kib as f64 * 1024.0 / messy.rows as f64
    );
    println!("peak memory of Redis: {:.1} MiB above an empty one", peak / MIB);
    println!(
        "  of it at the end: completions {:.1} MiB, results {:.2} MiB, checkpoint {checkpoint} bytes",
        completions as f64 / MIB,
        results as f64 / MIB
    );
}

/// The command, configured for Redis and the sandbox.
fn program(folder: &Path, redis: &RedisServer, sandbox: &Sandbox, args: &[&str]) -> Command {
    let credentials = SandboxConfig::default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xco-worker"));
    command.current_dir(folder).args(args).stdout(Stdio::null()).stderr(Stdio::null());
    for (key, value) in [
        ("REDIS__URL", redis.url()),
        ("XCO__BASE_URL", sandbox.base_url().as_str()),
        ("XCO__TOKEN_URL", sandbox.token_url().as_str()),
        ("XCO__CLIENT_ID", &credentials.client_id),
        ("XCO__CLIENT_SECRET", &credentials.client_secret),
        ("XCO__MERCHANT_ID", MERCHANT),
    ] {
        command.env(format!("XCO_WORKER__{key}"), value);
    }
    command
}

/// Checks that all counts match: the summary, the sandbox's calls, and the files.
fn account(summary: &Path, messy: &Messy, sandbox: &Sandbox) {
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(summary).unwrap()).unwrap();
    let (valid, known) = (messy.emails.len() as u64, messy.known().count() as u64);
    for (name, wanted) in [
        ("rows", messy.rows),
        ("valid", valid),
        ("rejected", messy.rejected),
        ("duplicates", messy.duplicates),
        ("enqueued", valid),
        ("ended", valid),
    ] {
        assert_eq!(told[name], wanted, "{name}: {told:#}");
    }
    assert_eq!(told["outcomes"], serde_json::json!({"created": valid - known, "needs_consent": known}));
    let mut checks: HashMap<String, u64> = HashMap::new();
    for call in sandbox.calls_of(Route::Exists) {
        *checks.entry(call.key.unwrap().to_lowercase()).or_default() += 1;
    }
    assert_eq!(checks.len(), messy.distinct().len(), "customers that were missed");
    assert!(checks.values().all(|count| *count == 1), "customers that were checked twice");
    assert_eq!(sandbox.calls_of(Route::Create).len() as u64, valid - known);
    let folder = summary.parent().unwrap();
    let lines = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap().lines().count() as u64 - 1;
    assert_eq!(lines("export.csv.results.csv"), valid);
    let rejected = std::fs::read(folder.join("export.csv.rejected.csv")).unwrap();
    let rejected = String::from_utf8_lossy(&rejected);
    let is_row = |line: &&str| line.split(';').next().is_some_and(|line| line.parse::<u64>().is_ok());
    assert_eq!(rejected.lines().filter(is_row).count() as u64, messy.rejected + messy.duplicates);
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

/// Maximum memory of a process so far in KiB, or 0 if the system does not report it.
fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
