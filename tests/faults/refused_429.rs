//! A 429 that Redis refuses to record delays no other end, and the wait that XCO asked for is kept.

use super::{
    jobs::{create, ids_of},
    kills::own_redis,
    ledger::{all_complete, settle},
    process::Process,
    support::{Setup, check},
};
use redis::cmd;
use std::{collections::BTreeSet, time::Duration};
use xco_worker::sandbox::{Fault, Latency, Route};

/// More than there are finishers.
const CALLERS: usize = 16;

#[rstest::rstest]
#[case::whose_bucket_cannot_be_read("get")]
#[case::whose_bucket_cannot_be_written("set")]
#[tokio::test(flavor = "multi_thread")]
async fn a_429_that_is_refused_holds_up_no_other_end_and_keeps_its_retry_after(#[case] command: &str) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(1500));
    let mut rig = setup.without_worker().await;
    let mut worker = Process::ready(&rig, &[]).await;
    rig.sandbox.order(Fault::status(429).on(Route::Exists).retry_after("6").times(CALLERS.try_into().unwrap()));
    let limited: Vec<_> = (0..CALLERS).map(|n| check(&format!("limited-{n}"), &format!("c{n}"))).collect();
    let free: Vec<_> = (0..20).map(|n| create(&format!("free-{n}"))).collect();
    for job in limited.iter().chain(&free) {
        rig.enqueue(job).await;
    }
    rig.sandbox.wait_for_calls(u64::try_from(CALLERS + free.len()).unwrap()).await;
    let rule = |sign: &str| {
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg("worker").arg(format!("{sign}{command}"));
        set
    };
    let () = rule("-").query_async(&mut rig.connection).await.unwrap();
    assert!(rig.completions.is_empty(), "the test was too slow to mean anything");
    all_complete(&mut rig, &ids_of(&free), 20).await;
    worker.until_status("/readyz", 503, Duration::from_secs(5)).await;
    let () = rule("+").query_async(&mut rig.connection).await.unwrap();
    let all: BTreeSet<String> = ids_of(&limited).into_iter().chain(ids_of(&free)).collect();
    all_complete(&mut rig, &all, 30).await;
    for n in 0..CALLERS {
        let gaps = rig.gaps_us(&format!("c{n}"));
        assert_eq!(gaps.len(), 1, "two calls: {gaps:?}");
        assert!(gaps[0] >= 5_950_000, "{gaps:?}");
    }
    for event in rig.completions.iter().filter(|event| event["type"] == "CheckUser") {
        assert_eq!((&event["status"], &event["attempts"]), (&"succeeded".into(), &2.into()), "{event:#}");
    }
    rig.denials().await;
    settle(&mut rig, std::slice::from_mut(&mut worker), &all).await;
}
