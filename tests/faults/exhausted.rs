//! A producer that may choose entry ids takes the last possible one: nothing can be added to that stream any more.

use super::{
    jobs::{create, seed, start},
    kills::own_redis,
    ledger::all_complete,
    process::Process,
    support::{Rig, Setup, check},
};
use redis::cmd;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;
use xco_worker::{
    queue::GROUP,
    sandbox::{Latency, Route},
};

const LAST_ID: &str = "18446744073709551615-18446744073709551615";
/// Number of unaffected jobs in the same batches.
const INNOCENT: usize = 60;

/// Takes the last id of a stream.
async fn exhaust(rig: &mut Rig, key: &str) {
    let () = cmd("XADD").arg(key).arg(LAST_ID).arg("job").arg("{}").query_async(&mut rig.connection).await.unwrap();
}

/// Repairs a stream as the manual describes: the ids continue after its last entry.
async fn repair(rig: &mut Rig, key: &str) {
    let () = cmd("XDEL").arg(key).arg(LAST_ID).query_async(&mut rig.connection).await.unwrap();
    let newest: Vec<(String, redis::Value)> =
        cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1).query_async(&mut rig.connection).await.unwrap();
    let (seconds, _): (u64, u64) = cmd("TIME").query_async(&mut rig.connection).await.unwrap();
    let id = newest.first().map_or_else(|| format!("{}-0", seconds * 1000), |(id, _)| id.clone());
    let () = cmd("XSETID").arg(key).arg(&id).query_async(&mut rig.connection).await.unwrap();
    let () = cmd("XGROUP").arg("SETID").arg(key).arg(GROUP).arg(&id).query_async(&mut rig.connection).await.unwrap();
}

fn parent(id: &str) -> serde_json::Value {
    let mut job = check(id, "192.0.2.1");
    let child = create(&format!("{id}/absent"));
    job["next"] = json!({"absent": {"type": "CreateUser", "args": child["args"]}});
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_without_ids_costs_no_innocent_job_and_goes_on_once_repaired() {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    // All calls are running when the lane is exhausted, and end together.
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(700));
    let mut rig = setup.without_worker().await;
    let mut worker = Process::ready(&rig, &[("WORKER__CONCURRENCY", "100")]).await;
    rig.enqueue(&parent("parent")).await;
    let innocent: BTreeSet<String> = (0..INNOCENT).map(|n| format!("j{n}")).collect();
    for id in &innocent {
        rig.enqueue(&check(id, id)).await;
    }
    let calls = u64::try_from(INNOCENT + 1).unwrap();
    rig.sandbox.wait_for_calls(calls).await;
    let lane = rig.key("jobs:interactive");
    exhaust(&mut rig, &lane).await;
    assert!(rig.completions.is_empty(), "the test was too slow to mean anything");

    all_complete(&mut rig, &innocent, 20).await;
    // The parent cannot enqueue its child: either both wait, or the child used another stream.
    repair(&mut rig, &lane).await;
    let family: BTreeSet<String> = ["parent", "parent/absent"].map(str::to_owned).into();
    all_complete(&mut rig, &family, 30).await;
    let created = rig.sandbox.calls_of(Route::Create);
    assert_eq!(created.len(), 1, "one child of one parent: {created:#?}");

    // The lane accepts jobs again.
    rig.enqueue(&check("afterwards", "192.0.2.3")).await;
    all_complete(&mut rig, &BTreeSet::from(["afterwards".to_owned()]), 20).await;
    worker.stop().await;
    rig.drain().await;
    let nobodys: Vec<_> = rig.completions.iter().filter(|event| event["status"] == "rejected").collect();
    // The entry with the last id was not a valid job. It may have been rejected before it was removed.
    assert!(nobodys.len() <= 1, "{nobodys:#?}");
    assert_eq!(rig.completions.len() - nobodys.len(), INNOCENT + 3, "some completed twice");
    rig.assert_clean().await;
}

/// Delayed jobs return through streams of their own, which can be exhausted, too.
#[rstest::rstest]
#[case::of_the_bulk_lane("interactive", "bulk")]
#[case::of_the_interactive_lane("bulk", "interactive")]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_come_back_keeps_nobody_from_it_and_has_nothing_called_twice(
    #[case] open: &str,
    #[case] exhausted: &str,
) {
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.without_worker().await;
    let mut worker = Process::ready(&rig, &[]).await;
    seed(&rig.sandbox, "s");
    let run_at = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(800);
    let due_at = |mut job: serde_json::Value| {
        job["run_at"] = json!(run_at.to_string());
        job
    };
    rig.enqueue_text(open, &due_at(start("s")).to_string()).await;
    rig.enqueue_text(exhausted, &due_at(check("b", "192.0.2.1")).to_string()).await;
    let delayed = rig.key("delayed");
    rig.eventually("both are put aside", async |rig: &mut Rig| {
        let length: u64 = cmd("ZCARD").arg(&delayed).query_async(&mut rig.connection).await.unwrap();
        length == 2
    })
    .await;
    let due = rig.key(&format!("due:{exhausted}"));
    exhaust(&mut rig, &due).await;
    all_complete(&mut rig, &BTreeSet::from(["s".to_owned()]), 20).await;
    // Long enough for several promotions.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 1);

    repair(&mut rig, &due).await;
    all_complete(&mut rig, &BTreeSet::from(["b".to_owned()]), 20).await;
    worker.stop().await;
    rig.drain().await;
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 1);
    rig.assert_clean().await;
}
