//! Measures the `dead` commands with many dead letters: `cargo bench --bench letters`.
//!
//! It starts its own Redis (append-only file, fsync every second, as in production), writes dead letters as a worker
//! does, and runs the binary as an operator does. It reports the time of each command, and the maximum memory of any of
//! them so far.
//!
//! Flags: `--letters N` (default a million).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "a server in a container is for tests")]
#[path = "../../tests/integration/support/container.rs"]
mod container;
#[path = "../../tests/integration/support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/integration/support/redis_server.rs"]
mod redis_server;
#[allow(dead_code)]
#[path = "../../tests/integration/support/users.rs"]
mod users;

use nix::sys::resource::{UsageWho, getrusage};
use redis_server::RedisServer;
use std::{
    process::{Command, Stdio},
    time::Instant,
};

const CALLERS: usize = 50_000;
const ERRORS: [(&str, u16); 5] =
    [("upstream", 503), ("upstream", 500), ("timeout", 0), ("network", 0), ("validation", 422)];

fn main() {
    let mut words = std::env::args().skip(1);
    let mut count = 1_000_000;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--letters" => count = words.next().and_then(|n| n.parse().ok()).expect("--letters is a number"),
            "--bench" => {}
            _ => panic!("unknown flag {word}: there is --letters"),
        }
    }
    let server = RedisServer::own(&["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let begun = Instant::now();
    write(&mut connection, count);
    println!("{count} letters written in {:.1} s", begun.elapsed().as_secs_f64());
    let bytes: u64 = redis::cmd("MEMORY").arg("USAGE").arg("{xco:0}:dead").query(&mut connection).unwrap();
    println!("{} bytes each in Redis", bytes / u64::try_from(count).unwrap());
    for (what, flags) in [
        ("list, the newest 50", "list"),
        ("list with a filter that one letter fits (a customer)", "list --customer-reference customer-7"),
        ("list with a filter that one letter fits (text)", "list --text customer-0000007@example.com"),
        ("count by error.kind", "list --by error.kind"),
        ("count by type and status of one kind", "list --error upstream --by type,error.http_status"),
        ("count by caller", "list --by caller"),
        ("export to /dev/null", "export"),
        ("dry run of a replay of all", "replay --all --dry-run"),
        ("dry run with a filter", "replay --error timeout --dry-run"),
        ("replay of 10,000, as fast as can be", "replay --all --limit 10000 --rate 1000000/s --yes"),
        ("discard of a fifth", "discard --error network --yes"),
    ] {
        let begun = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_xco-worker"))
            .arg("dead")
            .args(flags.split(' '))
            .args(["--redis-url", server.url()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "dead {flags}: {status}");
        let took = begun.elapsed().as_secs_f64();
        let most_mib = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() / 1024;
        println!("{took:>7.2} s  {most_mib:>4} MiB  {what}");
    }
    let (left, moved): (usize, usize) =
        redis::pipe().xlen("{xco:0}:dead").xlen("{xco:0}:due:bulk").query(&mut connection).unwrap();
    println!("{left} letters left, {moved} jobs in the bulk lane");
}

fn write(connection: &mut redis::Connection, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(10_000) {
        let mut adds = redis::pipe();
        for number in chunk {
            let (kind, status) = ERRORS[number % ERRORS.len()];
            let status = if status == 0 { String::new() } else { format!(r#""http_status":{status},"#) };
            let problem = r#"{"type":"https://api.example/problems/unavailable","title":"Unavailable","status":503}"#;
            let error = format!(
                r#"{{"kind":"{kind}","message":"XCO answered: Unavailable",{status}"problem":{problem},"retryable":true}}"#
            );
            let caller = format!("198.51.100.{}-{:05}", number % 250, number % CALLERS);
            let (job_type, args) = if number % 2 == 0 {
                ("CheckUser", format!(r#"{{"email":"customer-{number:07}@example.com"}}"#))
            } else {
                let user = format!(
                    r#"{{"email":"customer-{number:07}@example.com","first_name":"Ada","last_name":"Byron","phone_number":"+33612345678"}}"#
                );
                ("CreateUser", format!(r#"{{"customer_reference":"customer-{number}","user":{user}}}"#))
            };
            let job = format!(
                r#"{{"type":"{job_type}","id":"job-{number:07}","caller_id":"{caller}","batch":"batch-{}","args":{args}}}"#,
                number % 40
            );
            let state = format!(r#"{{"o":"interactive:0:1732265000000-{number}"}}"#);
            adds.cmd("XADD").arg("{xco:0}:dead").arg("*").arg("id").arg(format!("job-{number:07}"));
            adds.arg("type").arg(job_type).arg("job").arg(job).arg("error").arg(error);
            adds.arg("at")
                .arg("2026-01-31T09:05:07.042Z")
                .arg("replayable")
                .arg("true")
                .arg("state")
                .arg(state)
                .ignore();
        }
        adds.exec(connection).unwrap();
    }
}
