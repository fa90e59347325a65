//! Commands that somebody else gives Redis: consumers deleted, deliveries acknowledged, lanes trimmed.

use super::{
    jobs::{create, seed, start},
    kills::{ids, own_redis, rig},
    ledger::{all_complete, of, settle},
    process::Process,
    support::{Setup, check},
};
use redis::cmd;
use std::{collections::BTreeSet, time::Duration};
use xco_worker::{
    queue::GROUP,
    sandbox::{Fault, Latency, Route},
};

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_killed_worker_whose_consumer_was_deleted_are_taken_up_again() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[]).await;
    seed(&rig.sandbox, "s");
    rig.sandbox.order(Fault::hang().on(Route::Start).after_effect().times(1));
    rig.sandbox.order(Fault::hang().on(Route::Create).after_effect().times(1));
    rig.sandbox.order(Fault::hang().on(Route::Exists).times(1));
    for job in [start("s"), create("made"), check("c", "192.0.2.1")] {
        rig.enqueue(&job).await;
    }
    rig.sandbox.wait_for_calls(3).await;
    first.kill();
    let lane = rig.key("jobs:interactive");
    let pending: Vec<(String, String, u64, u64)> =
        cmd("XPENDING").arg(&lane).arg(GROUP).arg("-").arg("+").arg(9).query_async(&mut rig.connection).await.unwrap();
    let consumers: BTreeSet<&str> = pending.iter().map(|row| row.1.as_str()).collect();
    assert_eq!((pending.len(), consumers.len()), (3, 1));
    let consumer = &pending[0].1;
    let dropped: u64 = cmd("XGROUP")
        .arg("DELCONSUMER")
        .arg(&lane)
        .arg(GROUP)
        .arg(consumer)
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    assert_eq!(dropped, 3);
    let second = Process::spawn(&rig, &[]);
    let all = ids(["s", "made", "c"]);
    all_complete(&mut rig, &all, 20).await;
    settle(&mut rig, &mut [second], &all).await;
    assert_eq!(of(&rig, "s")["error"]["kind"], "in_doubt");
    assert_eq!(of(&rig, "made")["result"]["after_doubt"], true);
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 1);
    assert_eq!(rig.sandbox.calls_of(Route::Create).len(), 1);
}

#[rstest::rstest]
#[case::within_a_lease(700)]
#[case::longer_than_two_leases(2600)]
#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_entries_a_producer_trimmed_are_completed_and_what_is_lost_is_reported(#[case] latency_ms: u64) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(latency_ms));
    let mut rig = setup.without_worker().await;
    let mut worker = Process::ready(&rig, &[("WORKER__CONCURRENCY", "64")]).await;
    for n in 0..564 {
        let id = format!("j{n}");
        rig.enqueue(&check(&id, &id)).await;
    }
    rig.sandbox.wait_for_calls(64).await;
    let lane = rig.key("jobs:interactive");
    let last = check("last", "last").to_string();
    let mut add = cmd("XADD");
    add.arg(&lane).arg("MAXLEN").arg(50).arg("*").arg("job").arg(last);
    let _: String = add.query_async(&mut rig.connection).await.unwrap();
    // What is left of the lane, and every call that was made.
    let mut kept: BTreeSet<String> = (515..564).map(|n| format!("j{n}")).collect();
    kept.insert("last".to_owned());
    all_complete(&mut rig, &kept, 30).await;
    for call in rig.sandbox.calls_of(Route::Exists) {
        let customer = call.key.unwrap_or_default();
        kept.insert(customer.trim_end_matches("@example.com").to_owned());
    }
    all_complete(&mut rig, &kept, 20).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while worker.counter("xco_worker_entries_removed_total").await == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the loss is never reported");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.enqueue(&check("afterwards", "192.0.2.1")).await;
    kept.insert("afterwards".to_owned());
    all_complete(&mut rig, &kept, 20).await;
    settle(&mut rig, std::slice::from_mut(&mut worker), &kept).await;
}
