//! Backfills with customers that earlier backfills created.

use super::{
    backfill::{Running, backfill, lines, plain, summary},
    support::{Rig, Setup, account},
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;
use xco_worker::{contract::Partitions, sandbox::Route};

const OTHER_MERCHANT: &str = "0f9d5b1e-2f7e-4d0a-9a51-6f3f5f1c2d3e";

/// Runs a backfill to its end, or prints its report.
fn run(folder: &TempDir, rig: &Rig, args: &[&str]) -> Value {
    let args = [args, &["--json"]].concat();
    summary(&backfill(folder, rig, &args).assert().code(0).get_output().stdout)
}

/// The results of `FILE.results.csv`: outcome by reference.
fn outcome(results: &Path, reference: &str) -> String {
    let line = lines(results).into_iter().find(|line| line.starts_with(&format!("{reference},"))).unwrap();
    line.split(',').nth(1).unwrap().to_owned()
}

/// Lets Redis forget a backfill, as it does after thirty days.
async fn forget(rig: &mut Rig, batch: &str) {
    for suffix in ["", ":results", ":customers"] {
        let _: u64 = rig.connection.del(rig.key(&format!("backfill:{batch}{suffix}"))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_of_an_earlier_batch_are_no_strangers() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.seed_user(&account("c3@example.com"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("c.csv"), plain(20)).unwrap();
    let first = run(&folder, &rig, &["c.csv", "--batch", "a"]);
    assert_eq!(first["outcomes"], json!({"created": 19, "needs_consent": 1}));

    // The file is changed in place. Its copy has the same customers, one with another reference, and new ones.
    fs::write(path("c.csv"), "changed").unwrap();
    let text = plain(30).replace("c7,c7@example.com", "seven,c7@example.com").replace("c8@example", "C8@Example");
    fs::write(path("d.csv"), text).unwrap();
    let overlapping = json!({"created": 10, "created_before": 18, "needs_consent": 2});
    let second = run(&folder, &rig, &["d.csv", "--batch", "b"]);
    assert_eq!((&second["outcomes"], &second["complete"]), (&overlapping, &json!(true)), "{second:#}");
    assert!(second.get("not_compared").is_none(), "{second:#}");
    let results = path("d.csv.results.csv");
    for (reference, wanted) in [
        ("c1", "created_before"),
        ("c3", "needs_consent"),
        ("seven", "needs_consent"),
        ("c8", "created_before"),
        ("c30", "created"),
    ] {
        assert_eq!(outcome(&results, reference), wanted, "{reference}");
    }

    // Redis forgets the first batch: what the second found stays, and another batch still knows it from the second.
    forget(&mut rig, "a").await;
    let again = run(&folder, &rig, &["report", "b"]);
    assert_eq!((&again["outcomes"], &again["not_compared"]), (&overlapping, &json!(["a"])), "{again:#}");
    fs::write(path("e.csv"), plain(2)).unwrap();
    let third = run(&folder, &rig, &["e.csv", "--batch", "c"]);
    assert_eq!(third["outcomes"], json!({"created_before": 2}), "{third:#}");

    // Redis knows nobody of the first three batches: that is said, and nothing is claimed.
    forget(&mut rig, "b").await;
    forget(&mut rig, "c").await;
    let args = ["e.csv", "--batch", "d"];
    let said = contains("needs_consent may count customers that these batches created").and(contains("a, b, c"));
    let fourth = backfill(&folder, &rig, &args).assert().code(0).stderr(contains("c, b, a").or(said));
    fourth.stdout(contains("needs_consent"));
    let fourth = run(&folder, &rig, &["report", "d"]);
    assert_eq!(fourth["outcomes"], json!({"needs_consent": 2}), "{fourth:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_another_merchant_or_of_a_former_version_is_not_compared() {
    let mut rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(5)).unwrap();
    let first = run(&folder, &rig, &["c.csv", "--batch", "a"]);
    assert_eq!(first["outcomes"], json!({"created": 5}));
    let other = run(&folder, &rig, &["c.csv", "--batch", "b", "--merchant-id", OTHER_MERCHANT]);
    assert_eq!(other["outcomes"], json!({"needs_consent": 5}), "{other:#}");
    assert!(other.get("not_compared").is_none(), "{other:#}");
    // A former version kept no fingerprints, or the batch was begun by it.
    let _: u64 = rig.connection.del(rig.key("backfill:a:customers")).await.unwrap();
    let after = run(&folder, &rig, &["c.csv", "--batch", "c"]);
    assert_eq!((&after["outcomes"], &after["not_compared"]), (&json!({"needs_consent": 5}), &json!(["a"])));
    let _: u64 = rig.connection.hdel(rig.key("backfill:c"), "salt").await.unwrap();
    let after = run(&folder, &rig, &["report", "c"]);
    let mut batches: Vec<_> = after["not_compared"].as_array().unwrap().iter().map(|name| name.as_str()).collect();
    batches.sort_unstable();
    assert_eq!(batches, [Some("a"), Some("b")], "{after:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_and_a_correction_know_the_earlier_batch() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let rig = setup.start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("c.csv"), plain(300) + "c301,nobody\n").unwrap();
    run(&folder, &rig, &["c.csv", "--batch", "a"]);
    let rejected = fs::read_to_string(path("c.csv.rejected.csv")).unwrap();
    fs::write(path("c.csv.rejected.csv"), rejected.replace("nobody", "c301@example.com")).unwrap();
    let corrected = run(&folder, &rig, &["c.csv.rejected.csv", "--correct", "a"]);
    assert_eq!(corrected["outcomes"], json!({"created": 301}), "{corrected:#}");

    fs::write(path("d.csv"), plain(400).replace("c301@example.com", "nobody").replace("c5@example.com", "nobody"))
        .unwrap();
    let args = ["d.csv", "--batch", "b", "--window", "50"];
    let before = rig.sandbox.calls_of(Route::Exists).len();
    let killed = Running::start(&folder, &rig, &args);
    rig.sandbox.wait_for_calls(rig.sandbox.calls().len() as u64 + 150).await;
    killed.kill();
    backfill(&folder, &rig, &["report", "b"]).assert().code(1);
    let resumed = run(&folder, &rig, &args);
    assert_eq!(resumed["outcomes"], json!({"created": 99, "created_before": 299}), "{resumed:#}");
    let rejected = fs::read_to_string(path("d.csv.rejected.csv")).unwrap();
    let rejected = rejected.replace("c301,nobody", "c301,c301@example.com").replace("c5,nobody", "c5,c5@example.com");
    fs::write(path("d.csv.rejected.csv"), rejected).unwrap();
    for _ in 0..2 {
        let corrected = run(&folder, &rig, &["d.csv.rejected.csv", "--correct", "b"]);
        let outcomes = json!({"created": 99, "created_before": 301});
        assert_eq!((&corrected["outcomes"], &corrected["complete"]), (&outcomes, &json!(true)), "{corrected:#}");
    }
    // Nobody was looked up twice by one batch.
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len() - before, 400);
    assert_eq!(outcome(&path("d.csv.results.csv"), "c301"), "created_before");
    rig.end().await;
}
