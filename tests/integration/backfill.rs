//! Backfills through the binary: what is enqueued, what is reported, and the cost of a kill.

use super::support::{
    Rig, Setup, account,
    messy::{MAP, Messy},
};
use assert_cmd::Command;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use xco_worker::{
    contract::Partitions,
    sandbox::{Fault, Route},
};

pub(crate) fn environment(rig: &Rig) -> [(&'static str, String); 3] {
    [
        ("XCO_WORKER__REDIS__URL", rig.redis.url_as("operator")),
        ("XCO_WORKER__REDIS__NAMESPACE", rig.config.redis.namespace.clone()),
        ("XCO_WORKER__REDIS__PARTITIONS", rig.config.redis.partitions.get().to_string()),
    ]
}

pub(crate) fn backfill(folder: &TempDir, rig: &Rig, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("xco-worker").unwrap();
    command.current_dir(folder.path()).env_clear().env("USER", "ada").envs(environment(rig));
    command.timeout(Duration::from_secs(90)).arg("backfill").args(args);
    command
}

/// A backfill in the background, killed at the latest when the test ends.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(folder: &TempDir, rig: &Rig, args: &[&str]) -> Self {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("xco-worker"));
        command.current_dir(folder.path()).envs(environment(rig)).arg("backfill").args(args);
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    /// The exit status and the output.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn summary(output: &[u8]) -> Value {
    serde_json::from_slice(output).unwrap()
}

pub(crate) fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn lines_of(path: &Path) -> Vec<Value> {
    lines(path).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A file with `customers` valid rows.
pub(crate) fn plain(customers: usize) -> String {
    let rows: Vec<String> = (1..=customers).map(|n| format!("c{n},c{n}@example.com\n")).collect();
    format!("customer_reference,email\n{}", rows.concat())
}

pub(crate) async fn enqueued(rig: &mut Rig) -> u64 {
    let key = rig.key("jobs:bulk");
    rig.connection.xlen(key).await.unwrap()
}

/// Number of checks by email address, in lower case.
fn checks(rig: &Rig) -> BTreeMap<String, usize> {
    let mut checks = BTreeMap::new();
    for call in rig.sandbox.calls_of(Route::Exists) {
        *checks.entry(call.key.unwrap().to_lowercase()).or_default() += 1;
    }
    checks
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_become_users_and_every_row_is_accounted_for() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.seed_user(&account("known@example.com"));
    rig.sandbox.order(Fault::status(400).on(Route::Create).times(1));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kunden.csv");
    let text = "Nr;E-Mail;first_name;billing_country\r\n1;known@example.com;Zo\u{eb};\r\n\r\n2;nobody;x;\r\n\
                3;new@example.com;\"Ren\u{e9}e\r\n\"\"R\"\"\";FRANCE\r\n4;NEW@example.com;;\r\n";
    let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    fs::write(&path, latin1).unwrap();
    let args =
        ["kunden.csv", "--encoding", "latin1", "--map", "email=E-Mail", "--map", "customer_reference=Nr", "--json"];
    let output = backfill(&folder, &rig, &[&args[..], &["--batch", "spring"]].concat()).assert().code(0);
    let told = summary(&output.get_output().stdout);
    assert_eq!(
        (&told["rows"], &told["valid"], &told["rejected"], &told["duplicates"]),
        (&json!(4), &json!(2), &json!(1), &json!(1))
    );
    assert_eq!((&told["outcomes"], &told["complete"]), (&json!({"failed": 1, "needs_consent": 1}), &json!(true)));
    assert_eq!(told["errors"], json!({"validation": 1}));

    let rejected = folder.path().join("kunden.csv.rejected.csv");
    assert_eq!(
        lines(&rejected),
        [
            "\u{feff}line;reason;Nr;E-Mail;first_name;billing_country",
            "4;email must be an email address such as name@example.com;2;nobody;x;",
            "7;email is that of line 5;4;NEW@example.com;;"
        ]
    );
    let results = folder.path().join("kunden.csv.results.csv");
    let header = "customer_reference,outcome,error,attempts";
    assert_eq!(lines(&results), [header, "1,needs_consent,,1", "3,failed,validation,2"]);
    for path in [rejected, results.clone()] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let audit: redis::streams::StreamRangeReply = rig.connection.xrange_all(rig.key("audit")).await.unwrap();
    let what: String = redis::from_redis_value(audit.ids[0].map["what"].clone()).unwrap();
    assert!(what.contains("\"spring\"") && what.contains("kunden.csv") && !what.contains("example.com"), "{what}");

    // Run again: nothing is left to do.
    let calls = rig.sandbox.calls().len();
    backfill(&folder, &rig, &[&args[..], &["--batch", "spring"]].concat()).assert().code(0);
    assert_eq!(rig.sandbox.calls().len(), calls);
    // The dead letter is replayed: the row's later completion counts.
    rig.stop_workers().await;
    rig.drain().await;
    rig.assert_clean().await;
    let event = json!({"id": "spring/3/absent", "type": "CreateUser", "status": "succeeded", "outcome": "created",
        "attempts": 1, "replay": 1});
    let fields =
        [("id", "spring/3/absent"), ("type", "CreateUser"), ("status", "succeeded"), ("event", &event.to_string())];
    let _: String = rig.connection.xadd(rig.key("completions"), "*", &fields).await.unwrap();
    backfill(&folder, &rig, &["report", "spring"]).assert().code(0).stdout(contains("created"));
    assert_eq!(lines(&results)[2], "3,created,,2");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_no_customer_is_missed_or_checked_twice() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let rig = setup.start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.csv");
    let mut text = Vec::new();
    let messy = Messy::write(2000, &mut text);
    let mut packed = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    packed.write_all(&text).unwrap();
    packed.finish().unwrap();
    for email in messy.known() {
        rig.sandbox.seed_user(&account(email));
    }
    let mut args = vec!["export.csv", "--batch", "b", "--window", "200", "--json"];
    args.extend(MAP.iter().flat_map(|entry| ["--map", entry]));
    for calls in [rand::random_range(1..800), rand::random_range(801..2000)] {
        let run = Running::start(&folder, &rig, &args);
        rig.sandbox.wait_for_calls(calls).await;
        run.kill();
        // The results so far are reported and collected.
        backfill(&folder, &rig, &["report", "b", "--json"]).assert().code(1);
    }
    let output = backfill(&folder, &rig, &args).assert().code(0);
    let told = summary(&output.get_output().stdout);
    let (valid, known) = (messy.emails.len() as u64, messy.known().count() as u64);
    assert_eq!(messy.distinct().len() as u64, valid);
    let counts = json!([messy.rows, valid, messy.rejected, messy.duplicates, valid, valid]);
    let names = ["rows", "valid", "rejected", "duplicates", "enqueued", "ended"];
    assert_eq!(json!(names.map(|name| &told[name])), counts, "{told:#}");
    assert_eq!(told["outcomes"], json!({"created": valid - known, "needs_consent": known}));

    let checks = checks(&rig);
    assert!(checks.values().all(|count| *count == 1));
    let wanted: BTreeSet<String> = messy.emails.iter().map(|email| email.to_lowercase()).collect();
    assert_eq!(checks.into_keys().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(rig.sandbox.calls_of(Route::Create).len() as u64, valid - known);
    let results = lines(&folder.path().join("export.csv.results.csv"));
    assert_eq!(results.len() as u64, valid + 1);
    assert_eq!(results.iter().filter(|line| line.ends_with(",created,,2")).count() as u64, valid - known);
    // The rows are written as they are, with bytes that are no text.
    let rejected = fs::read(folder.path().join("export.csv.rejected.csv")).unwrap();
    let rejected = String::from_utf8_lossy(&rejected);
    let numbered = rejected.lines().filter(|line| line.split(';').next().unwrap().parse::<u64>().is_ok()).count();
    assert_eq!(numbered as u64, messy.rejected + messy.duplicates);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_window_is_under_way() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(300)).unwrap();
    let args = ["c.csv", "--batch", "w", "--window", "40"];
    let mut run = Running::start(&folder, &rig, &args);
    rig.eventually("the window is full", async |rig| enqueued(rig).await == 40).await;
    let output = backfill(&folder, &rig, &["report", "w", "--json"]).assert().code(1);
    let told = summary(&output.get_output().stdout);
    assert_eq!((&told["enqueued"], &told["pending"], &told["complete"]), (&json!(40), &json!(40), &json!(false)));
    let results = lines(&folder.path().join("c.csv.results.csv"));
    assert_eq!((results[40].as_str(), results[41].as_str()), ("c40,pending,,0", "c41,not_enqueued,,0"));
    assert_eq!(enqueued(&mut rig).await, 40);
    let mut cancel = Command::cargo_bin("xco-worker").unwrap();
    cancel.env_clear().envs(environment(&rig)).args(["cancel", "--batch", "w", "--dry-run"]);
    cancel.assert().code(0).stderr(contains("If its command runs, stop that first"));

    run.signal(Signal::SIGINT);
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("the 40 rows that are under way go on"), "{said}");
    assert_eq!(enqueued(&mut rig).await, 40);
    rig.start_worker();
    backfill(&folder, &rig, &args).assert().code(0).stdout(contains("created                300"));
    assert!(checks(&rig).values().all(|count| *count == 1));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_at_once_the_later_goes_on_alone() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(300)).unwrap();
    let args = ["c.csv", "--batch", "w", "--window", "40", "--rate", "10000/s"];
    let mut first = Running::start(&folder, &rig, &args);
    rig.eventually("the window is full", async |rig| enqueued(rig).await == 40).await;
    let mut second = Running::start(&folder, &rig, &args);
    let (status, said) = first.end();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another run of the batch w has taken over"), "{said}");
    rig.start_worker();
    assert_eq!(second.end().0.code(), Some(0));
    let checks = checks(&rig);
    assert_eq!((checks.len(), checks.values().max()), (300, Some(&1)));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_up_is_refused() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.csv");
    fs::write(&path, plain(3)).unwrap();
    let mut run = Running::start(&folder, &rig, &["c.csv", "--batch", "w"]);
    rig.eventually("all is enqueued", async |rig| enqueued(rig).await == 3).await;
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end().0.code(), Some(1));

    let changed =
        |args: &[&str]| backfill(&folder, &rig, args).assert().code(2).stderr(contains("with other files or flags"));
    changed(&["c.csv", "--batch", "w", "--delimiter", ","]);
    fs::write(&path, plain(4)).unwrap();
    changed(&["c.csv", "--batch", "w"]).stderr(contains("--batch"));
    backfill(&folder, &rig, &["report", "w"])
        .assert()
        .code(1)
        .stdout(contains("pending                  3"))
        .stderr(contains("its files are not what they were"));
    backfill(&folder, &rig, &["report", "nothing"]).assert().code(1).stderr(contains("no batch nothing is known"));
    assert_eq!(enqueued(&mut rig).await, 3);
}

#[test]
fn a_dry_run_needs_no_redis() {
    let folder = tempfile::tempdir().unwrap();
    let command = |args: &[&str]| {
        let mut command = Command::cargo_bin("xco-worker").unwrap();
        command.current_dir(folder.path()).env_clear().env("XCO_WORKER__REDIS__URL", "redis://127.0.0.1:1");
        command.timeout(Duration::from_secs(60)).arg("backfill").args(args);
        command
    };
    fs::write(folder.path().join("a.csv"), plain(2) + "c3,nobody\n").unwrap();
    let lines = "{\"customer_reference\":\"c2\",\"user\":{\"email\":\"d@example.com\"}}\n\
                 {\"customer_reference\":\"d2\",\"user\":{\"email\":\"d2@example.com\",\"nick\":1}}\n";
    fs::write(folder.path().join("b.ndjson"), lines).unwrap();
    let output = command(&["a.csv", "b.ndjson", "--dry-run", "--json"]).assert().code(0);
    let told = summary(&output.get_output().stdout);
    let counts = ["rows", "valid", "rejected", "duplicates"].map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [5, 2, 2, 1], "{told:#}");
    let rejected = lines_of(&folder.path().join("b.ndjson.rejected.ndjson"));
    assert_eq!(rejected[0]["line"], "b.ndjson:1");
    assert!(rejected[0]["reason"].as_str().unwrap().starts_with("customer_reference is that of line 3 of "));
    assert_eq!((&rejected[1]["line"], &rejected[1]["customer_reference"]), (&json!("b.ndjson:2"), &json!("d2")));
    assert!(rejected[1]["reason"].as_str().unwrap().contains("/user/nick is no field known here"), "{rejected:?}");
    assert_eq!(told["reasons"].as_array().unwrap().len(), 3, "{told:#}");

    // A dry run of stdin leaves no copy of the customers.
    let told = command(&["-", "--dry-run", "--json"]).write_stdin(plain(2)).assert().code(0);
    let told = summary(&told.get_output().stdout);
    assert_eq!((&told["valid"], &told["sizing"]["calls"]), (&json!(2), &json!(4)), "{told:#}");
    let batch = told["batch"].as_str().unwrap();
    assert!(batch.starts_with("stdin-") && batch.matches('-').count() == 1, "{batch}");
    assert!(!folder.path().join(batch).exists());

    fs::write(folder.path().join("m.csv"), "Mail,customer_reference\n").unwrap();
    command(&["m.csv", "--dry-run"])
        .assert()
        .code(2)
        .stderr(contains("no column `email`; there are: `Mail`, `customer_reference`"))
        .stderr(contains("--map"));
    command(&["a.csv"]).assert().code(1).stderr(contains("Redis").and(contains("hint:")));
    for wrong in
        [&["a.csv", "a.csv"][..], &["gone.csv"], &["a.csv", "--batch", "a b"], &["a.csv", "--merchant-id", "x"]]
    {
        let code = if wrong[0] == "gone.csv" { 1 } else { 2 };
        command(wrong).assert().code(code);
    }
}
