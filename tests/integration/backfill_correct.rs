//! Backfills whose rejected rows are corrected and fed back.

use super::{
    backfill::{Running, backfill, enqueued, lines, plain, summary},
    support::Setup,
};
use predicates::str::contains;
use serde_json::json;
use std::{collections::BTreeSet, fs};
use xco_worker::sandbox::Route;

#[tokio::test(flavor = "multi_thread")]
async fn corrected_rows_go_into_the_same_batch() {
    let rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = "Nr;email;Ville;phone_number\n1;a@example.com;Paris;\n2;nobody;=Lyon;+33612345678\n\n3;b@example;Nice;\n\
                4;A@example.com;\"Le;Mans\";\n5;\"e\"@example.com;x;\n";
    fs::write(path("c.csv"), text).unwrap();
    let map = ["--map", "customer_reference=Nr"];
    let first = backfill(&folder, &rig, &[&["c.csv", "--batch", "s", "--json"], &map[..]].concat()).assert().code(0);
    let told = summary(&first.get_output().stdout);
    assert_eq!(json!([told["rows"], told["valid"], told["rejected"], told["duplicates"]]), json!([5, 1, 3, 1]));
    assert_eq!(told["reasons"][0]["first"], "3", "{told:#}");
    let rejected = lines(&path("c.csv.rejected.csv"));
    let email = "email must be an email address such as name@example.com";
    let wanted = [
        "line;reason;Nr;email;Ville;phone_number".to_owned(),
        format!("3;{email};2;nobody;'=Lyon;'+33612345678"),
        format!("5;{email};3;b@example;Nice;"),
        "6;email is that of line 2;4;A@example.com;\"Le;Mans\";".to_owned(),
        "7;text stands behind a closing quote (a quote within quotes is written twice);\"5;\"\"e\"\"@example.com;x;\""
            .to_owned(),
    ];
    assert_eq!(rejected, wanted);

    // One row is right now, one is still wrong, one is left out, one is written anew.
    let corrected = rejected
        .join("\n")
        .replace("nobody", "c@example.com")
        .replace("\"5;\"\"e\"\"@example.com;x;\"", "5;e@example.com;x;");
    let corrected: Vec<&str> = corrected.lines().filter(|line| !line.contains("Mans")).collect();
    fs::write(path("c.csv.rejected.csv"), corrected.join("\n")).unwrap();
    let args = ["c.csv.rejected.csv", "--correct", "s", "--json"];
    let dry = backfill(&folder, &rig, &[&args[..], &["--dry-run"]].concat()).assert().code(0);
    let counts = json!([5, 3, 1, 1, 2]);
    let names = ["rows", "valid", "rejected", "duplicates", "corrected"];
    let dry = summary(&dry.get_output().stdout);
    assert_eq!(json!(names.map(|name| &dry[name])), counts, "{dry:#}");
    // The second time, nothing is left to do.
    for _ in 0..2 {
        let told = summary(&backfill(&folder, &rig, &args).assert().code(0).get_output().stdout);
        assert_eq!(json!(names.map(|name| &told[name])), counts, "{told:#}");
        assert_eq!((&told["outcomes"], &told["complete"]), (&json!({"created": 3}), &json!(true)));
        assert_eq!(lines(&path("c.csv.results.csv")).len(), 4);
    }
    let still = lines(&path("c.csv.rejected-2.csv"));
    assert_eq!(still[1..], [format!("5;{email};3;b@example;Nice;")]);
    fs::write(path("last.csv"), still.join("\n").replace("b@example;", "b@example.com;")).unwrap();
    let told = backfill(&folder, &rig, &["last.csv", "--correct", "s", "--json"]).assert().code(0);
    let told = summary(&told.get_output().stdout);
    assert_eq!(json!(names.map(|name| &told[name])), json!([5, 4, 0, 1, 3]), "{told:#}");
    // The command that began the batch knows its corrections.
    backfill(&folder, &rig, &[&["c.csv", "--batch", "s"], &map[..]].concat()).assert().code(0);
    let looked_up: Vec<_> = rig.sandbox.calls_of(Route::Exists).into_iter().map(|call| call.key.unwrap()).collect();
    assert_eq!((looked_up.len(), looked_up.iter().collect::<BTreeSet<_>>().len()), (4, 4));
    let created = rig.sandbox.calls_of(Route::Create);
    assert_eq!(created.len(), 4);

    // What was given must stay what it was.
    fs::write(path("last.csv"), "x").unwrap();
    backfill(&folder, &rig, &["report", "s"]).assert().code(1).stderr(contains("no result file was written"));
    backfill(&folder, &rig, &["c.csv", "--correct", "s"]).assert().code(1).stderr(contains("--correct"));
    fs::write(path("c.csv"), text.replace("nobody", "z@example.com")).unwrap();
    let again = backfill(&folder, &rig, &[&["c.csv"], &map[..]].concat()).assert().code(2);
    again.stderr(contains("is a file of the batch s")).stderr(contains("--correct"));
    backfill(&folder, &rig, &["c.csv", "--correct", "nothing"]).assert().code(1).stderr(contains("no batch nothing"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_ndjson_can_be_corrected() {
    let rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"customer_reference\":\"1\",\"user\":{\"email\":\"nobody\"}}\n{oops\n";
    fs::write(folder.path().join("c.ndjson"), text).unwrap();
    backfill(&folder, &rig, &["c.ndjson", "--batch", "n"]).assert().code(0);
    let path = folder.path().join("c.ndjson.rejected.ndjson");
    let rejected = fs::read_to_string(&path).unwrap();
    assert!(rejected.contains("\"text\":\"{oops\""), "{rejected}");
    fs::write(&path, rejected.replace("nobody", "a@example.com")).unwrap();
    let told = backfill(&folder, &rig, &["c.ndjson.rejected.ndjson", "--correct", "n", "--json"]).assert().code(0);
    let told = summary(&told.get_output().stdout);
    let names = ["rows", "valid", "rejected", "corrected"].map(|name| &told[name]);
    assert_eq!(json!(names), json!([2, 1, 1, 1]), "{told:#}");
    assert!(folder.path().join("c.ndjson.rejected-2.ndjson").exists());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_corrections_are_never_overwritten() {
    let rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("c.csv"), plain(2) + "c3,nobody\n").unwrap();
    backfill(&folder, &rig, &["c.csv", "--batch", "a"]).assert().code(0);
    let before = fs::read(path("c.csv.results.csv")).unwrap();
    fs::write(path("c.csv.rejected.csv"), "corrected").unwrap();
    for _ in 0..2 {
        backfill(&folder, &rig, &["c.csv", "--batch", "b"]).assert().code(0).stdout(contains("c.csv.b.results.csv"));
    }
    assert_eq!(fs::read(path("c.csv.results.csv")).unwrap(), before);
    assert_eq!(lines(&path("c.csv.b.results.csv")).len(), 3);
    assert_eq!(fs::read_to_string(path("c.csv.rejected.csv.old")).unwrap(), "corrected");
    let listed = summary(&backfill(&folder, &rig, &["list", "--json"]).assert().code(0).get_output().stdout);
    let names = ["batch", "valid", "rejected", "ended", "complete"];
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|one| json!(names.map(|name| &one[name]))).collect();
    assert_eq!(listed, [json!(["b", 2, 1, 2, true]), json!(["a", 2, 1, 2, true])]);
    backfill(&folder, &rig, &["list"]).assert().code(0).stdout(contains("2 of 2 rows ended, 1 rejected"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_says_what_limits_it() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(3)).unwrap();
    let args = ["c.csv", "--batch", "h"];
    let mut run = Running::start(&folder, &rig, &args);
    rig.eventually("all is enqueued", async |rig| enqueued(rig).await == 3).await;
    rig.start_worker();
    let (status, said) = run.end();
    assert!(status.success() && said.contains("no worker is running"), "{said}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejected_rows_stop_a_backfill_before_it_begins() {
    let rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(9) + "c10,nobody\n").unwrap();
    for dry_run in [&["--dry-run"][..], &[]] {
        let args = [&["c.csv", "--batch", "m", "--max-rejected", "5%"], dry_run].concat();
        backfill(&folder, &rig, &args).assert().code(1).stderr(contains("1 of 10 rows are rejected"));
    }
    backfill(&folder, &rig, &["report", "m"]).assert().code(1).stderr(contains("no batch m"));
    let args = ["c.csv", "--dry-run", "--max-rejected", "10%"];
    backfill(&folder, &rig, &args).assert().code(0).stdout(contains("email must be an email address"));
    assert!(folder.path().join("c.csv.rejected.csv").exists());
}
