//! The command line from outside: exit codes, and the content of stdout and stderr.
#![allow(clippy::unwrap_used, missing_docs)]

use assert_cmd::Command;
use predicates::str::{contains, is_empty};

/// The binary, in an empty directory and without the user's configuration.
fn xco_worker(dir: &tempfile::TempDir) -> Command {
    let mut command = Command::cargo_bin("xco-worker").unwrap();
    command.current_dir(dir.path()).env_clear();
    command
}

#[test]
fn every_fault_of_the_configuration_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    std::fs::write(dir.path().join("config/xco-worker.toml"), "[worker]\nconcurency = 4\n").unwrap();
    xco_worker(&dir)
        .args(["run", "--concurrency", "0"])
        .env("XCO_WORKER__REDIS__URL", "redis://:hunter2@h:port")
        .assert()
        .code(2)
        .stdout(is_empty())
        .stderr(contains("worker.concurency (config/xco-worker.toml:2): unknown key; did you mean worker.concurrency?"))
        .stderr(contains("redis.url (XCO_WORKER__REDIS__URL): "))
        .stderr(contains("worker.concurrency (--concurrency): "))
        .stderr(predicates::boolean::PredicateBooleanExt::not(contains("hunter2")));
}

#[test]
fn wrong_usage_is_2() {
    let dir = tempfile::tempdir().unwrap();
    xco_worker(&dir).arg("no-such-command").assert().code(2).stdout(is_empty());
    xco_worker(&dir).args(["doctor", "--config", "nowhere.toml"]).assert().code(2).stderr(contains("no such file"));
    xco_worker(&dir)
        .args(["doctor"])
        .env("OTEL_TRACES_EXPORTER", "zipkin")
        .assert()
        .code(2)
        .stderr(contains("OTEL_TRACES_EXPORTER"));
}

#[test]
fn help_and_completion_scripts_need_no_configuration() {
    let dir = tempfile::tempdir().unwrap();
    xco_worker(&dir).arg("--help").assert().code(0).stdout(contains("xco-worker demo"));
    for shell in ["bash", "zsh", "fish"] {
        xco_worker(&dir)
            .args(["shell-completions", shell])
            .env("XCO_WORKER__NONSENSE", "1")
            .assert()
            .code(0)
            .stdout(contains("xco-worker"))
            .stderr(is_empty());
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = std::process::Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
        .args(["shell-completions", "bash"])
        .current_dir(dir.path())
        .stdout(writer)
        .status()
        .unwrap();
    assert!(status.success());
}
