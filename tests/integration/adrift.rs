//! A delivery missing from the pending list: what operators see of it, and what they can do.

use super::{
    commands::{json_lines, pointed},
    support::{Rig, Setup, account, check, start},
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::cmd;
use serde_json::json;
use xco_worker::queue::{Connector, GROUP, Keys, rescue};

/// Jobs delivered to a worker whose consumer was deleted, or skipped because the group was set past them.
async fn adrift(rig: &mut Rig, ids: &[&str], delivered: bool) {
    let lane = rig.key("jobs:interactive");
    let group = |what: &str| {
        let mut group = cmd("XGROUP");
        group.arg(what).arg(&lane).arg(GROUP);
        group
    };
    let () = group("CREATE").arg("0").arg("MKSTREAM").query_async(&mut rig.connection).await.unwrap();
    for id in ids {
        let job = if id.starts_with("start") { start(id, id, "ada@example.com") } else { check(id, id) };
        rig.enqueue(&job).await;
    }
    if delivered {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("gone").arg("STREAMS").arg(&lane).arg(">");
        let _: redis::Value = read.query_async(&mut rig.connection).await.unwrap();
        let _: u64 = group("DELCONSUMER").arg("gone").query_async(&mut rig.connection).await.unwrap();
    } else {
        let () = group("SETID").arg("$").query_async(&mut rig.connection).await.unwrap();
    }
}

#[rstest::rstest]
#[case::delivered(true, false)]
#[case::passed_over(false, false)]
#[case::found_by_a_worker(true, true)]
#[tokio::test(flavor = "multi_thread")]
async fn why_and_cancel_know_a_delivery_that_nobody_holds(#[case] delivered: bool, #[case] found: bool) {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    rig.sandbox.seed_user(&account("ada@example.com"));
    adrift(&mut rig, &["a", "start-b", "c"], delivered).await;
    if found {
        let mut link = Connector::new(&rig.redis_as("worker")).unwrap().link(false);
        let keys = Keys::new(&rig.config.redis.namespace, 0);
        let stream = keys.jobs(xco_worker::contract::Lane::Interactive);
        let found = rescue::find_adrift(&mut link, stream, &mut rescue::Search::default()).await.unwrap();
        assert_eq!(found, (3, true));
    }
    for id in ["a", "start-b"] {
        let output = pointed(&folder, &rig).args(["why", id, "--json"]).assert().code(0).get_output().stdout.clone();
        let why = json_lines(&output).remove(0);
        assert_eq!((&why["place"], &why["holds"]), (&json!("adrift"), &json!(["no_worker"])), "{why:#}");
        let told = contains("no consumer holds it").and(contains("behind").not()).and(contains("worker adrift").not());
        pointed(&folder, &rig).args(["why", id]).assert().code(0).stdout(told);
        pointed(&folder, &rig)
            .args(["cancel", id])
            .assert()
            .code(0)
            .stdout(contains(format!("cancelled: {id}")).and(contains("no consumer holds it")));
    }
    rig.start_worker();
    rig.wait_for(3).await;
    for id in ["a", "start-b"] {
        assert_eq!(rig.completion(id).await["status"], "cancelled");
    }
    assert_eq!(rig.completion("c").await["outcome"], "absent");
    assert_eq!(rig.sandbox.stats().calls, 1);
    rig.end().await;
}
