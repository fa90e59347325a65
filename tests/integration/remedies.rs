//! What commands say about wrong settings, and how they print: through the binary.

use super::{
    commands::{json_lines, lines, pointed},
    support::{RedisServer, Rig, Setup, check},
};
use assert_cmd::Command;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::json;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};
use xco_worker::contract::Partitions;

/// The binary with this Redis and nothing else.
fn only_redis(folder: &tempfile::TempDir, url: &str) -> Command {
    let mut command = Command::cargo_bin("xco-worker").unwrap();
    command.current_dir(folder.path()).env_clear().timeout(Duration::from_secs(30)).args(["--redis-url", url]);
    command
}

#[test]
fn each_error_of_redis_has_its_own_remedy() {
    let redis = RedisServer::own(&["--save", "", "--databases", "4"]);
    let mut admin = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("hunter2").exec(&mut admin).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |credentials: &str, db: &str| format!("redis://{credentials}127.0.0.1:{}/{db}", redis.port());
    for (url, cause, remedy) in [
        (at("", ""), "NOAUTH: Redis wants a password", "redis://:PASSWORD@host:port"),
        (at(":wrong@", ""), "authentication failed", "correct the user and the password in redis.url"),
        (at(":hunter2@", "9"), "no database of this number", "correct the number at the end of redis.url"),
    ] {
        for command in ["status", "audit"] {
            let failed = only_redis(&folder, &url).arg(command).assert().code(1);
            failed.stderr(contains(cause).and(contains(remedy)).and(contains("is it running").not()));
        }
        let failed = only_redis(&folder, &url).arg("doctor").assert().code(1);
        failed.stdout(contains(cause).and(contains("start it").not()));
    }
    only_redis(&folder, &at(":hunter2@", "")).arg("audit").assert().code(0);
    let gone = only_redis(&folder, "redis://127.0.0.1:1").arg("status").assert().code(1);
    gone.stderr(contains("connection refused").and(contains("is it running?")));
    for url in ["127.0.0.1:6379", "localhost:6379"] {
        only_redis(&folder, url)
            .arg("status")
            .assert()
            .code(2)
            .stderr(contains("the scheme is missing: begin it with redis://"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_named_as_such() {
    let redis = RedisServer::own(&["--save", ""]);
    let folder = tempfile::tempdir().unwrap();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let _: () = connection.set("{xco:0}:delayed", "x").await.unwrap();
    let failed = only_redis(&folder, redis.url()).arg("status").assert().code(1);
    failed.stderr(contains("WRONGTYPE").and(contains("set redis.namespace")).and(contains("is it running").not()));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_of_an_operator_needs_no_xco() {
    let setup = Setup { redis: RedisServer::own(&["--save", "", "--appendonly", "yes"]), ..Setup::default() };
    let rig = setup.start().await;
    let folder = tempfile::tempdir().unwrap();
    let unset = |rig: &Rig| {
        let mut command = pointed(&folder, rig);
        for key in ["BASE_URL", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "MERCHANT_ID"] {
            command.env_remove(format!("XCO_WORKER__XCO__{key}"));
        }
        command.arg("doctor");
        command
    };
    unset(&rig).assert().code(0).stdout(contains("the 1 running worker has its own").and(contains("FAIL").not()));
    let mut token_url_missing = pointed(&folder, &rig);
    token_url_missing.env_remove("XCO_WORKER__XCO__TOKEN_URL").arg("doctor");
    token_url_missing.assert().code(1).stdout(contains("token endpoint"));
    let mut with_gateway = unset(&rig);
    with_gateway.env("XCO_WORKER__GATEWAY__LISTEN", "0.0.0.0:1");
    with_gateway.assert().code(0).stdout(contains("no gateway.tokens are set"));
    rig.end().await;
    let rig = Setup::default().without_worker().await;
    let without_worker = unset(&rig).assert().code(1);
    without_worker.stdout(contains("1 failed: ").and(contains("no worker is running")));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_status_fit_a_narrow_terminal() {
    let rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    for columns in [60, 80] {
        for command in ["doctor", "status"] {
            let mut narrow = pointed(&folder, &rig);
            let output = narrow.env("COLUMNS", columns.to_string()).arg(command).assert().get_output().stdout.clone();
            for line in lines(&output) {
                assert!(line.chars().count() <= columns, "{line}");
            }
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_end_without_following_and_with_their_reader() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.start().await;
    let folder = tempfile::tempdir().unwrap();
    for n in 0..5 {
        rig.enqueue(&check(&format!("job-{n}"), "c")).await;
    }
    rig.wait_for(5).await;
    let completions = |args: &[&str]| {
        let mut command = pointed(&folder, &rig);
        command.env("XCO_WORKER__REDIS__PARTITIONS", "2").arg("completions").args(args);
        command
    };
    let kept = completions(&["--no-follow", "--json"]).assert().code(0).get_output().stdout.clone();
    let kept = json_lines(&kept);
    let ids: BTreeSet<_> = kept.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!((kept.len(), ids.len()), (5, 5));
    let date = &kept[0]["completed_at"].as_str().unwrap()[..10];
    completions(&["--no-follow", "--id", "job-3"]).assert().code(0).stdout(contains("job-3").and(contains(date)));
    completions(&["--no-follow", "--count", "9"]).assert().code(1).stderr(contains("5 of 9 completions are kept"));

    let mut following = std::process::Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
        .args(["completions", "--from", "beginning"])
        .current_dir(folder.path())
        .envs(super::commands::environment(&rig))
        .env("XCO_WORKER__REDIS__PARTITIONS", "2")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(following.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("job-"), "{first}");
    // The reader has gone, and no further completion comes.
    let begun = Instant::now();
    let status = tokio::task::spawn_blocking(move || following.wait().unwrap()).await.unwrap();
    assert!(status.success() && begun.elapsed() < Duration::from_secs(10), "{status}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_holds_no_jobs_is_read_no_further() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let refused = |input: String| {
        let mut command = pointed(&folder, &rig);
        command.args(["enqueue", "--file", "-"]).write_stdin(input).assert().code(1)
    };
    let output = refused("nonsense\n".repeat(500)).get_output().stderr.clone();
    let said = lines(&output);
    assert_eq!(said.len(), 12, "{said:?}");
    assert!(said[10].contains("the first 10 lines are no jobs") && said[11].starts_with("hint: "), "{said:?}");
    // After a job, every faulty line is reported.
    let output = refused(format!("{}\n{}", check("one", "c"), "nonsense\n".repeat(20))).get_output().stderr.clone();
    assert!(lines(&output).last().unwrap().contains("1 job enqueued, 20 lines skipped"), "{output:?}");
    rig.start_worker();
    rig.wait_for(1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_from_a_dead_letter_moves_the_cursor() {
    let mut rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut job = check("hostile", "c");
    job["meta"] = json!({"note": "a\u{9b}31m\u{7f}\u{202e}gpj\u{2028}\u{1b}[2J"});
    job["args"] = json!({"email": "no address"});
    rig.enqueue(&job).await;
    rig.wait_for(1).await;
    for args in [&["dead", "show", "hostile", "--reveal"][..], &["dead", "list"], &["completions", "--no-follow"]] {
        let output = pointed(&folder, &rig).args(args).assert().code(0).get_output().stdout.clone();
        let shown = String::from_utf8(output).unwrap();
        let obeyed = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202e}' | '\u{2028}'));
        assert!(shown.contains("hostile") && !shown.contains(obeyed), "{shown:?}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_json_logs_json() {
    let rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let mut worker = std::process::Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
        .args(["--json", "run", "--listen", "off"])
        .current_dir(folder.path())
        .envs(super::commands::environment(&rig))
        .env("XCO_WORKER__GATEWAY__LISTEN", "0.0.0.0:1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(worker.stderr.take().unwrap()).read_line(&mut line).unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(event["level"], "WARN", "{event}");
    assert!(line.contains("no gateway.tokens are set"), "{line}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_from_the_environment_is_recorded_with_the_systems_user() {
    let rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let mut pause = pointed(&folder, &rig);
    pause.env("XCO_OPERATOR", "ada").args(["pause", "--lane", "bulk"]).assert().code(0);
    let output = pointed(&folder, &rig).args(["audit", "--json"]).assert().code(0).get_output().stdout.clone();
    let entry = &json_lines(&output)[0];
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).unwrap().unwrap().name;
    assert_eq!(entry["who"], "ada");
    assert!(entry["from"].as_str().unwrap().starts_with(&format!("{user}@")), "{entry}");
    rig.end().await;
}
