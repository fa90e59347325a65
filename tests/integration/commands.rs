//! The commands, through the binary.

use super::support::{MERCHANT, RedisServer, Rig, Setup, check, free_port, in_time};
use assert_cmd::Command;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};
use xco_worker::sandbox::SandboxConfig;

/// The binary without the user's configuration, in an empty folder.
fn command(folder: &tempfile::TempDir) -> Command {
    let mut command = Command::cargo_bin("xco-worker").unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.current_dir(folder.path()).env_clear().env("PATH", path).timeout(Duration::from_secs(90));
    command
}

pub(super) fn environment(rig: &Rig) -> Vec<(&'static str, String)> {
    let credentials = SandboxConfig::default();
    vec![
        ("XCO_WORKER__REDIS__URL", rig.redis.url_as("operator")),
        ("XCO_WORKER__REDIS__NAMESPACE", rig.config.redis.namespace.clone()),
        ("XCO_WORKER__XCO__BASE_URL", rig.sandbox.base_url().to_string()),
        ("XCO_WORKER__XCO__TOKEN_URL", rig.sandbox.token_url().to_string()),
        ("XCO_WORKER__XCO__CLIENT_ID", credentials.client_id),
        ("XCO_WORKER__XCO__CLIENT_SECRET", credentials.client_secret),
        ("XCO_WORKER__XCO__MERCHANT_ID", MERCHANT.to_owned()),
    ]
}

pub(super) fn pointed(folder: &tempfile::TempDir, rig: &Rig) -> Command {
    let mut command = command(folder);
    command.envs(environment(rig));
    command
}

pub(super) fn lines(output: &[u8]) -> Vec<String> {
    String::from_utf8(output.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

pub(super) fn json_lines(output: &[u8]) -> Vec<Value> {
    lines(output).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An operator's command line. Its own configuration has no limits: what the file says comes from the workers.
pub(super) struct Console {
    folder: tempfile::TempDir,
}

impl Console {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn command(&self, rig: &Rig, args: &[&str]) -> Command {
        let mut command = pointed(&self.folder, rig);
        command.env("XCO_OPERATOR", "ada").args(args);
        command.env("XCO_WORKER__REDIS__PARTITIONS", rig.config.redis.partitions.get().to_string());
        command
    }

    /// What a command prints that succeeds.
    pub(super) fn done(&self, rig: &Rig, args: &[&str]) -> Vec<Value> {
        let mut command = self.command(rig, args);
        json_lines(&command.arg("--json").assert().code(0).get_output().stdout.clone())
    }

    /// The first report that it prints.
    pub(super) fn report(&self, rig: &Rig, args: &[&str]) -> Value {
        self.done(rig, args).remove(0)
    }

    pub(super) fn why(&self, rig: &Rig, id: &str) -> Value {
        self.report(rig, &["why", id])
    }

    pub(super) fn status(&self, rig: &Rig) -> Value {
        self.report(rig, &["status", "--every", "200ms"])
    }
}

/// A child process, killed at the latest when the test ends.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn demo_once_shows_everything_and_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&folder)
        .args(["demo", "--once", "--signups", "8", "--seed", "7"])
        .assert()
        .code(0)
        .stdout(contains("none missing, none twice, each ended as it should"))
        .stdout(contains("xco-worker --help` lists its commands"))
        .stdout(contains("\u{1b}").not())
        .stdout(contains("example.com").not())
        .stderr(predicates::str::is_empty())
        .get_output()
        .stdout
        .clone();
    let rows: Vec<String> =
        lines(&output).into_iter().filter(|line| line.trim_start().starts_with(char::is_numeric)).collect();
    for (id, what) in [
        ("signup-0002/exists ", "otp_sent"),
        ("/consent-1 ", "invalid_code"),
        ("/consent-2 ", "consented"),
        ("impatient-12 ", "for its limit"),
        ("throttled ", "2 calls"),
        ("outage-1 ", "between tries"),
        ("  malformed ", "at /args/email /args/nickname"),
        ("tried-once ", "upstream"),
        ("backfill-40 ", "created"),
    ] {
        let row = rows.iter().find(|row| row.contains(id)).unwrap_or_else(|| panic!("no {id}"));
        assert!(row.contains(what), "{row}");
    }
    // Enqueued behind the backfill, and ended before most of it.
    let at = |id: &str| rows.iter().position(|row| row.contains(id)).unwrap();
    let overtaken = rows.iter().skip(at("in-between ")).filter(|row| row.contains("backfill-")).count();
    assert!(overtaken >= 10, "{rows:#?}");
    let said = format!("`in-between` ended before {overtaken} of the 40");
    assert!(lines(&output).iter().any(|line| line.contains(&said)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_in_another_redis_leaves_nothing_behind() {
    let redis = RedisServer::own(&["--save", ""]);
    let folder = tempfile::tempdir().unwrap();
    let output = command(&folder)
        .args(["demo", "--once", "--signups", "3", "--json", "--redis-url", redis.url()])
        .assert()
        .code(0)
        .get_output()
        .stdout
        .clone();
    let printed = json_lines(&output);
    let summary = &printed.last().unwrap()["summary"];
    assert_eq!(summary["exactly_once"], true, "{summary:#}");
    assert_eq!(summary["answered_429"], 1);
    assert_eq!(summary["jobs"], printed.len() - 1);
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = connection.keys("*").await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[test]
fn demo_interrupted_takes_away_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Running(
        std::process::Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
            .arg("demo")
            .current_dir(folder.path())
            .env_remove("REDIS_URL")
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut out = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let mut port = None;
    for line in out.by_ref().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("127.0.0.1:")
            && line.contains("Redis")
        {
            port = rest.split(',').next().and_then(|port| port.parse::<u16>().ok());
        }
        if line.contains("signup-0001") {
            break;
        }
    }
    let port = port.expect("a port");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    demo.signal(Signal::SIGINT);
    out.for_each(drop);
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "Redis is still there");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_goes_through_a_worker_and_comes_back_as_completions() {
    let rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = String::new();
    for n in 1..=5 {
        let mut job = check(&format!("line-{n}"), &format!("192.0.2.{n}"));
        if n == 5 {
            job["lane"] = json!("bulk");
        }
        jobs += &job.to_string();
        jobs.push('\n');
    }
    let input = format!("{jobs}\n{{\"type\":\"CheckUser\"}}\nnonsense\n");
    let enqueued = pointed(&folder, &rig)
        .args(["enqueue", "--file", "-"])
        .write_stdin(input)
        .assert()
        .code(1)
        .stderr(contains("line 7: /args: "))
        .stderr(contains("line 8: the job: "))
        .stderr(contains("5 jobs enqueued, 2 lines skipped"))
        .get_output()
        .stdout
        .clone();
    assert_eq!(lines(&enqueued), ["line-1", "line-2", "line-3", "line-4", "line-5"]);
    let mut connection = rig.connection.clone();
    assert_eq!(connection.xlen::<_, u64>(rig.key("jobs:interactive")).await.unwrap(), 4);
    assert_eq!(connection.xlen::<_, u64>(rig.key("jobs:bulk")).await.unwrap(), 1);

    let mut worker = Running(
        std::process::Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
            .args(["run", "--listen", "off"])
            .current_dir(folder.path())
            .envs(environment(&rig))
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let followed = pointed(&folder, &rig)
        .args(["completions", "--from", "beginning", "--count", "5", "--timeout", "30s", "--json"])
        .assert()
        .code(0)
        .get_output()
        .stdout
        .clone();
    let mut ids: Vec<_> = json_lines(&followed).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, ["line-1", "line-2", "line-3", "line-4", "line-5"]);
    pointed(&folder, &rig)
        .args(["completions", "--from", "beginning", "--id", "line-3", "--count", "1", "--timeout", "30s"])
        .assert()
        .code(0)
        .stdout(contains("line-3").and(contains("CheckUser")).and(contains("absent")))
        .stdout(contains("line-2").not());
    pointed(&folder, &rig)
        .args(["completions", "--from", "beginning", "--status", "failed", "--count", "1", "--timeout", "300ms"])
        .assert()
        .code(1)
        .stderr(contains("0 of 1 completions came in time"));
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.0.wait().unwrap().code(), Some(0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueue_waits_for_its_completion() {
    let rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let enqueue = |args: &[&str]| {
        let mut command = pointed(&folder, &rig);
        command.arg("enqueue").args(args);
        command
    };
    let check = ["--type", "CheckUser", "--email", "ada@example.com", "--caller-id", "c"];
    enqueue(&check)
        .args(["--wait", "30s"])
        .assert()
        .code(0)
        .stdout(contains("cli-").and(contains("absent")).and(contains("\"exists\": false")));
    let output =
        enqueue(&["--type", "VerifyOtp", "--email", "ada@example.com", "--caller-id", "c", "--code", "000000"])
            .args(["--id", "wrong-code", "--wait", "30s", "--json"])
            .assert()
            .code(1)
            .get_output()
            .stdout
            .clone();
    let event = &json_lines(&output)[0];
    assert_eq!((event["id"].as_str(), event["status"].as_str()), (Some("wrong-code"), Some("failed")));

    // A duplicate is answered with the completion of the first job, and says so.
    let again = ["--type", "VerifyOtp", "--email", "ada@example.com", "--caller-id", "c", "--code", "000000"];
    let output = enqueue(&again)
        .args(["--id", "wrong-code", "--wait", "30s", "--json"])
        .assert()
        .code(1)
        .stderr(contains("not enqueued again: wrong-code was enqueued at 2").and(contains(", and ended at 2")))
        .get_output()
        .stdout
        .clone();
    assert_eq!(json_lines(&output)[0], *event);
    let run_at = in_time(Duration::from_secs(6));
    let delayed = ["--id", "delayed", "--run-at", run_at.as_str()];
    enqueue(&check).args(delayed).assert().code(0);
    enqueue(&check)
        .args(delayed)
        .args(["--wait", "500ms"])
        .assert()
        .code(1)
        .stderr(contains("not enqueued again: delayed was enqueued at 2").and(contains("did not come within 500ms")))
        .stderr(contains("hint: ").and(contains("xco-worker why delayed")));

    let printed = enqueue(&check).arg("--json").assert().code(0).get_output().stdout.clone();
    let printed = &json_lines(&printed)[0];
    assert_eq!(printed["id"], format!("interactive:0:{}", printed["entry_id"].as_str().unwrap()));

    enqueue(&["--type", "CheckUser", "--email", "ada at example", "--reply"])
        .assert()
        .code(1)
        .stdout(predicates::str::is_empty())
        .stderr(contains("--email: ").and(contains("--reply: ")).and(contains("ada at").not()))
        .stderr(contains("not enqueued"));
    enqueue(&["--type", "CheckUser", "--email", "ada at example", "--reply", "--json"])
        .assert()
        .code(1)
        .stderr(contains("/args/email: ").and(contains("/reply: ")));
    let mut rig = rig;
    rig.wait_for(4).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_shares_the_completions_and_forgets_none() {
    let mut rig = Setup::default().start().await;
    for n in 0..6 {
        rig.enqueue(&check(&format!("g{n}"), &format!("192.0.2.{n}"))).await;
    }
    rig.wait_for(6).await;
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    // Each reader takes a few and leaves. With 4, the last would have to wait for more than there are.
    for (consumer, count) in [("a", 2), ("b", 1), ("c", 3)] {
        let output = pointed(&folder, &rig)
            .args(["completions", "--group", "shop", "--from", "beginning", "--json", "--timeout", "30s"])
            .args(["--consumer", consumer, "--count", &count.to_string()])
            .assert()
            .code(0)
            .get_output()
            .stdout
            .clone();
        let events = json_lines(&output);
        assert_eq!(events.len(), count);
        seen.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
    }
    seen.sort();
    assert_eq!(seen, ["g0", "g1", "g2", "g3", "g4", "g5"]);
    let key = rig.key("completions");
    let pending: redis::streams::StreamPendingReply = rig.connection.xpending(&key, "shop").await.unwrap();
    assert_eq!(pending.count(), 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_a_good_setup_good() {
    let setup = Setup { redis: RedisServer::own(&["--save", "", "--appendonly", "yes"]), ..Setup::default() };
    let rig = setup.start().await;
    let folder = tempfile::tempdir().unwrap();
    let output = pointed(&folder, &rig).args(["doctor", "--json"]).assert().code(0).get_output().stdout.clone();
    let checks = json_lines(&output);
    for name in [
        "redis version",
        "redis role",
        "redis persistence",
        "redis eviction",
        "redis writes",
        "clock",
        "queue",
        "completions",
        "xco configuration",
        "xco.merchant_id",
        "xco token",
        "xco reachable",
    ] {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(check["status"], "ok", "{check:#}");
    }
    pointed(&folder, &rig).arg("doctor").assert().code(0).stdout(contains("Everything is as it should be."));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_each_fault_and_its_remedy() {
    let options = ["--save", "", "--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let setup = Setup { redis: RedisServer::own(&options), ..Setup::default() };
    let rig = setup.without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let mut broken = pointed(&folder, &rig);
    broken.env("XCO_WORKER__XCO__CLIENT_SECRET", "not-the-secret").env_remove("XCO_WORKER__XCO__MERCHANT_ID");
    let output = broken.args(["doctor", "--json"]).assert().code(1).get_output().stdout.clone();
    let checks = json_lines(&output);
    for (name, status) in [
        ("redis persistence", "warn"),
        ("redis eviction", "fail"),
        ("xco.merchant_id", "warn"),
        ("xco token", "fail"),
        ("xco reachable", "ok"),
    ] {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(check["status"], status, "{check:#}");
        assert_eq!(check["remedy"].is_string(), status != "ok", "{check:#}");
    }
    assert!(!String::from_utf8(output).unwrap().contains("not-the-secret"));

    // No server at all.
    let port = free_port();
    let mut nothing = command(&folder);
    nothing
        .args(["doctor", "--redis-url", &format!("redis://:hunter2@127.0.0.1:{port}")])
        .assert()
        .code(1)
        .stdout(contains("connection refused"))
        .stdout(contains("xco.base_url").and(contains("xco.client_secret")))
        .stdout(contains("hunter2").not());
}
