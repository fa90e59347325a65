//! Commands that somebody else gives Redis: consumers deleted, deliveries acknowledged, lanes trimmed.

use super::{
    jobs::{create, seed, start},
    kills::{ids, rig},
    ledger::{all_complete, of, settle},
    process::Process,
    support::check,
};
use redis::cmd;
use std::collections::BTreeSet;
use xco_worker::{
    queue::GROUP,
    sandbox::{Fault, Route},
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
