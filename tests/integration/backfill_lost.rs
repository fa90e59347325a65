//! Backfills whose completions are lost, or mixed with foreign entries.

use super::{
    backfill::{Running, backfill, enqueued, lines, plain, summary},
    support::Setup,
};
use redis::AsyncCommands;
use serde_json::json;
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_completions_were_trimmed_unread_are_settled_as_unknown() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(60)).unwrap();
    let args = ["c.csv", "--batch", "g", "--window", "40", "--json"];
    let run = Running::start(&folder, &rig, &args);
    rig.eventually("the window is full", async |rig| enqueued(rig).await == 40).await;
    run.kill();
    // They end while no collector runs, and the stream is trimmed.
    rig.start_worker();
    rig.wait_for(80).await;
    let key = rig.key("completions");
    let _: u64 = redis::cmd("XTRIM").arg(key).arg("MAXLEN").arg(7).query_async(&mut rig.connection).await.unwrap();
    let told = summary(&backfill(&folder, &rig, &args).assert().code(0).get_output().stdout);
    assert_eq!(told["complete"], true, "{told:#}");
    let unknown = told["outcomes"]["unknown"].as_u64().unwrap();
    assert_eq!(told["outcomes"]["created"].as_u64().unwrap() + unknown, 60);
    assert!((33..=40).contains(&unknown), "{told:#}");
    let results = lines(&folder.path().join("c.csv.results.csv"));
    assert_eq!(results.iter().filter(|line| line.contains(",unknown,")).count() as u64, unknown);
    // Nothing was done twice.
    assert_eq!(rig.sandbox.stats().calls, 120);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_still_wait_are_not_taken_for_lost() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(10)).unwrap();
    let args = ["c.csv", "--batch", "w", "--json"];
    let run = Running::start(&folder, &rig, &args);
    rig.eventually("all are enqueued", async |rig| enqueued(rig).await == 10).await;
    run.kill();
    let key = rig.key("completions");
    for _ in 0..3 {
        let _: String = rig.connection.xadd(&key, "*", &[("foreign", "1")]).await.unwrap();
    }
    let _: u64 = redis::cmd("XTRIM").arg(&key).arg("MAXLEN").arg(1).query_async(&mut rig.connection).await.unwrap();
    let told = summary(&backfill(&folder, &rig, &["report", "w", "--json"]).assert().code(1).get_output().stdout);
    assert_eq!((&told["ended"], &told["pending"]), (&json!(0), &json!(10)), "{told:#}");
    let _: u64 = rig.connection.del(&key).await.unwrap();
    rig.start_worker();
    let told = summary(&backfill(&folder, &rig, &args).assert().code(0).get_output().stdout);
    assert_eq!(told["outcomes"], json!({"created": 10}));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_entry_in_a_full_page_does_not_end_a_collection() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(1500)).unwrap();
    let args = ["c.csv", "--batch", "f", "--window", "2000"];
    let run = Running::start(&folder, &rig, &args);
    rig.eventually("all are enqueued", async |rig| enqueued(rig).await == 1500).await;
    run.kill();
    let key = rig.key("completions");
    let mut pipe = redis::pipe();
    pipe.cmd("XADD").arg(&key).arg("*").arg("foreign").arg("1").ignore();
    for row in 1..=1500 {
        let id = format!("f/{row}");
        let event = json!({"id": id, "type": "CheckUser", "status": "succeeded", "outcome": "exists", "attempts": 1});
        pipe.cmd("XADD").arg(&key).arg("*").arg("id").arg(id).arg("type").arg("CheckUser").arg("status");
        pipe.arg("succeeded").arg("event").arg(event.to_string()).ignore();
    }
    let () = pipe.query_async(&mut rig.connection).await.unwrap();
    let told = summary(&backfill(&folder, &rig, &["report", "f", "--json"]).assert().get_output().stdout);
    assert_eq!(told["outcomes"], json!({"needs_consent": 1500}));
}

#[test]
fn one_mailbox_in_two_spellings_is_met_once_and_references_that_look_alike_are_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let text = "customer_reference,email\nRen\u{e9},a@m\u{fc}nchen.de\nx,a@xn--mnchen-3ya.de\n\
                Rene\u{301},ren\u{e9}@example.com\ny,Rene\u{301}@example.com\n";
    fs::write(folder.path().join("c.csv"), text).unwrap();
    let mut command = assert_cmd::Command::cargo_bin("xco-worker").unwrap();
    command.current_dir(folder.path()).env_clear().args(["backfill", "c.csv", "--dry-run", "--json"]);
    let output = command.assert().code(0);
    let told = summary(&output.get_output().stdout);
    let counts = ["valid", "rejected", "duplicates", "lookalikes"].map(|name| &told[name]);
    assert_eq!(json!(counts), json!([2, 0, 2, 1]), "{told:#}");
    let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(said.contains("line 4: the customer_reference looks like that of line 2"), "{said}");
}
