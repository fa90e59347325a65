//! A failing XCO, an XCO with unknown limits, and a Redis with a replica.

use super::support::{RedisServer, Setup, check};
use serde_json::json;
use std::{collections::HashSet, time::Duration};
use xco_worker::{config::Durability, contract::Lane, sandbox::SandboxLimit};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_spends_no_attempts_and_no_calls() {
    let mut setup = Setup::default();
    setup.config.retry.max_attempts = Some(3);
    let mut rig = setup.start().await;
    rig.sandbox.outage(503, None);
    // At once: jobs that trickle in could use up their attempts before enough calls have failed to open the breaker.
    rig.enqueue_all(Lane::Interactive, (0..400).map(|n| check(&format!("j{n}"), &format!("c{n}")))).await;
    // Without a breaker every job would have failed three times within half a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let calls = rig.sandbox.calls().len();
    assert!(calls <= 64 + 20 + 10, "{calls} calls into an outage: the slots, and a trickle");
    rig.sandbox.end_outage();
    let events = rig.wait_for(400).await;
    let ended: HashSet<&str> = events.iter().map(|event| event["status"].as_str().unwrap()).collect();
    assert_eq!(ended, HashSet::from(["succeeded"]));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_nobody_published_is_learned() {
    let mut setup = Setup::default();
    setup.config.limits.learn = true;
    setup.sandbox.caller_limit = Some(SandboxLimit { per_second: 30.0, burst: 5 });
    let mut rig = setup.start().await;
    for n in 0..200 {
        rig.enqueue(&check(&format!("j{n}"), "one")).await;
    }
    rig.follow(60, |events| events.len() >= 200).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded"));
    let refused: Vec<bool> = rig.sandbox.calls().iter().map(|call| call.status == Some(429)).collect();
    let (first, second) = refused.split_at(refused.len() / 2);
    let count = |calls: &[bool]| calls.iter().filter(|refused| **refused).count();
    let (first, second) = (count(first), count(second));
    assert!(second * 2 < first, "{first} refused in the first half, {second} in the second");
    assert!(second * 10 < refused.len() / 2, "{second} of {} in the second half", refused.len() / 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_replica_completions_are_done_when_it_has_them() {
    let mut setup = Setup {
        redis: RedisServer::own(&["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]),
        ..Setup::default()
    };
    setup.config.redis.durability = Durability::Replicated;
    let port = setup.redis.url().rsplit(':').next().unwrap().to_owned();
    let replica = RedisServer::own(&["--save", "", "--replicaof", "127.0.0.1", &port]);
    let mut rig = setup.start().await;
    let done = rig.complete(check("a", "c")).await;
    assert_eq!(done["result"], json!({"exists": false, "token_count": 0}));
    rig.end().await;
    drop(replica);
}
