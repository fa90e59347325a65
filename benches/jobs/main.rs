//! Measures how operators find and cancel jobs among many in every state: `cargo bench --bench jobs`.
//!
//! It starts its own Redis (append-only file, fsync every second, as in production), a simulated XCO and a worker. A fourth of the
//! jobs end, some of them with a dead letter, and a fourth is delayed for a day; then the worker stops. Of the others, a thousand
//! are running, as if a worker had them, and the rest waits in both lanes. Then the binary runs as an operator runs it: for
//! each command, the time and the maximum memory. What it finds is checked.
//!
//! Flags: `--jobs N` (default a million).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../support/binary.rs"]
mod binary;
#[allow(dead_code, reason = "a server in a container is for tests")]
#[path = "../../tests/integration/support/container.rs"]
mod container;
mod jobs;
#[path = "../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/integration/support/redis_server.rs"]
mod redis_server;
#[allow(dead_code)]
#[path = "../../tests/integration/support/users.rs"]
mod users;

use binary::{Running, peak_kib, program};
use jobs::{Place, Plan};
use redis_server::RedisServer;
use std::{
    io::Read,
    process::Stdio,
    time::{Duration, Instant},
};
use xco_worker::sandbox::{Fault, Route, Sandbox, SandboxConfig};

fn main() {
    let mut words = std::env::args().skip(1);
    let mut count = 1_000_000;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--jobs" => count = words.next().and_then(|n| n.parse().ok()).expect("--jobs is followed by a number"),
            "--bench" => {}
            _ => panic!("unknown flag {word}: there is --jobs"),
        }
    }
    let plan = Plan::new(count);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = SandboxConfig { token_life: Duration::from_secs(3600), max_records: 0, ..SandboxConfig::default() };
    let sandbox = runtime.block_on(Sandbox::start(config)).unwrap();
    sandbox.order(Fault::status(400).on(Route::Exists).times(plan.dead()));
    let server = RedisServer::own(&["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    prepare(&plan, &server, &sandbox, &mut connection);
    let operator = Operator { server: &server, sandbox: &sandbox };
    let memory: String = redis::cmd("INFO").arg("memory").query(&mut connection).unwrap();
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory_human:")).unwrap_or("?");
    println!("{count} jobs, {used} in Redis: {}", plan.describe());
    operator.lists(&plan);
    operator.explanations(&plan);
    operator.cancellations(&plan);
}

/// Brings the jobs into their places.
fn prepare(plan: &Plan, server: &RedisServer, sandbox: &Sandbox, connection: &mut redis::Connection) {
    let begun = Instant::now();
    let worker = Running(program(server, sandbox, &["run", "--listen", "off"]).spawn().unwrap());
    plan.add(connection, Place::Ended);
    plan.add(connection, Place::Delayed);
    loop {
        let (ended, delayed): (u64, u64) =
            redis::pipe().xlen("{xco:0}:completions").zcard("{xco:0}:delayed").query(connection).unwrap();
        if ended >= plan.count(Place::Ended) && delayed >= plan.count(Place::Delayed) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(worker);
    plan.add(connection, Place::Running);
    for lane in ["interactive", "bulk"] {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("workers").arg("a-worker").arg("COUNT").arg(plan.count(Place::Running));
        let _: redis::Value =
            read.arg("STREAMS").arg(format!("{{xco:0}}:jobs:{lane}")).arg(">").query(connection).unwrap();
    }
    plan.add(connection, Place::Waiting);
    println!("prepared in {:.0} s", begun.elapsed().as_secs_f64());
}

/// The binary, as an operator runs it.
struct Operator<'a> {
    server: &'a RedisServer,
    sandbox: &'a Sandbox,
}

impl Operator<'_> {
    fn lists(&self, plan: &Plan) {
        let (waiting, delayed, newest) = (plan.example(Place::Waiting), plan.example(Place::Delayed), plan.last());
        let list = |what: &str, flags: &[&str], wanted: usize| {
            let text = self.run(what, &[&["jobs", "list", "--json", "--limit", "1000"], flags].concat(), 0);
            let found = text.lines().filter(|line| line.contains("\"state\"")).count();
            assert_eq!(found, wanted, "{what}: {text}");
        };
        list("jobs list, the first 1,000", &[], 1000);
        list("jobs list --customer, whose job waits last", &["--customer", &newest.customer], 1);
        list("jobs list --email, whose job waits last", &["--email", &newest.email.to_uppercase()], 1);
        list("jobs list --customer, whose job is delayed", &["--customer", &delayed.customer], 1);
        list("jobs list --email of nobody", &["--email", "nobody@example.com"], 0);
        list("jobs list --customer of nobody", &["--customer", "nobody"], 0);
        list(
            "jobs list --state ended --status failed, 1,000",
            &["--state", "ended", "--status", "failed"],
            plan.listed_dead(),
        );
        list("jobs list --batch, one of 1,000", &["--batch", &waiting.batch], plan.in_batch(&waiting.batch));
    }

    fn explanations(&self, plan: &Plan) {
        for (place, word) in [
            (Place::Ended, "ended"),
            (Place::Delayed, "parked"),
            (Place::Running, "in_flight"),
            (Place::Waiting, "waiting"),
        ] {
            let id = plan.example(place).id;
            let text = self.run(&format!("why, of a job that is {word}"), &["why", "--json", &id], 0);
            assert!(text.contains(&format!("\"place\":\"{word}\"")), "{text}");
        }
        let last = plan.last().id;
        // It waits behind more jobs than `why` looks at by itself.
        self.run("why --all, of the job that waits last", &["why", "--json", "--all", &last], 0);
        self.run("why, of an unknown id", &["why", "--json", "nothing"], 1);
    }

    fn cancellations(&self, plan: &Plan) {
        let (delayed, batch) = (plan.example(Place::Delayed), plan.example(Place::Waiting).batch);
        self.run("cancel --customer --dry-run", &["cancel", "--json", "--customer", &delayed.customer, "--dry-run"], 0);
        self.run("cancel --batch --dry-run, one of 1,000", &["cancel", "--json", "--batch", &batch, "--dry-run"], 0);
        let text = self.run("cancel --batch, one of 1,000", &["cancel", "--json", "--batch", &batch, "--yes"], 0);
        assert!(text.contains("\"parked\""), "{text}");
        let text = self.run(
            "cancel --type CreateUser --dry-run, half",
            &["cancel", "--json", "--type", "CreateUser", "--dry-run"],
            0,
        );
        assert!(text.contains("\"waiting\""), "{text}");
    }

    /// Runs a command, prints its time and maximum memory, and returns its output.
    fn run(&self, what: &str, args: &[&str], exit: i32) -> String {
        let begun = Instant::now();
        let mut child = Running(program(self.server, self.sandbox, args).stdout(Stdio::piped()).spawn().unwrap());
        let mut output = child.0.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            text
        });
        let mut kib = 0;
        let status = loop {
            kib = kib.max(peak_kib(child.0.id()));
            if let Some(status) = child.0.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = begun.elapsed();
        let text = reader.join().unwrap();
        assert_eq!(status.code(), Some(exit), "{what}: {text}");
        println!("{:>8.3} s  {:>4} MiB  {what}", took.as_secs_f64(), kib / 1024);
        text
    }
}
