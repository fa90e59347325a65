//! Replies whose keys cannot be written: the job still completes.

use super::{
    kills::own_redis,
    ledger::{all_complete, settle},
    process::Process,
    scripts::{enqueue_together, ids},
    support::{Rig, Setup, check},
};
use redis::{AsyncCommands, cmd};
use serde_json::json;
use std::time::Duration;
use xco_worker::sandbox::Latency;

/// Puts a value of some type into a reply's key.
async fn spoil(rig: &mut Rig, key: &str, kind: &str) {
    let command: &[&str] = match kind {
        "string" => &["SET", key, "x"],
        "hash" => &["HSET", key, "f", "x"],
        "set" => &["SADD", key, "x"],
        "zset" => &["ZADD", key, "1", "x"],
        "stream" => &["XADD", key, "*", "f", "x"],
        _ => &["RPUSH", key, "x"],
    };
    let _: redis::Value = cmd(command[0]).arg(&command[1..]).query_async(&mut rig.connection).await.unwrap();
}

#[rstest::rstest]
#[case::string("string")]
#[case::hash("hash")]
#[case::set("set")]
#[case::sorted_set("zset")]
#[case::stream("stream")]
#[case::list("list")]
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_place_of_a_reply_costs_no_completion_and_no_reply(#[case] kind: &str) {
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.start().await;
    for n in (5..100).step_by(10) {
        let key = rig.key(&format!("reply:j{n}"));
        spoil(&mut rig, &key, kind).await;
    }
    let jobs: Vec<_> = (0..100)
        .map(|n| {
            let mut job = check(&format!("j{n}"), &format!("c{n}"));
            if n % 10 == 5 {
                job["reply"] = json!(true);
            }
            job
        })
        .collect();
    enqueue_together(&mut rig, &jobs).await;
    all_complete(&mut rig, &ids("j", 100), 20).await;
    for n in (5..100).step_by(10) {
        let key = rig.key(&format!("reply:j{n}"));
        let mut replies: Vec<String> = rig.connection.lrange(&key, 0, -1).await.unwrap();
        let event: serde_json::Value = serde_json::from_str(&replies.pop().unwrap()).unwrap();
        assert_eq!(event["id"], format!("j{n}"));
        // A list may be an older reply that someone still wants.
        assert_eq!(replies, if kind == "list" { vec!["x"] } else { vec![] }, "{key}");
    }
    rig.end().await;
}

/// A permission is withdrawn while jobs are being called: they complete without it.
#[rstest::rstest]
#[case::one_way_is_left(&["-expire"], true)]
#[case::no_way_is_left(&["-expire", "-pexpire"], false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_has_an_end_or_is_not_left_behind(#[case] rules: &[&str], #[case] replied: bool) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.sandbox.latency = Latency::fixed(Duration::from_millis(1500));
    let mut rig = setup.without_worker().await;
    let mut worker = Process::ready(&rig, &[]).await;
    let jobs: Vec<_> = (0..8)
        .map(|n| {
            let mut job = check(&format!("j{n}"), &format!("c{n}"));
            job["reply"] = json!(true);
            job
        })
        .collect();
    enqueue_together(&mut rig, &jobs).await;
    rig.sandbox.wait_for_calls(8).await;
    // An earlier reply has its own expiry, and may still be wanted.
    let before = rig.key("reply:j0");
    let _: u64 = rig.connection.rpush(&before, "before").await.unwrap();
    let _: bool = rig.connection.expire(&before, 60).await.unwrap();
    let () = cmd("ACL").arg("SETUSER").arg("worker").arg(rules).query_async(&mut rig.connection).await.unwrap();
    assert!(rig.completions.is_empty(), "the test was too slow to mean anything");
    let all = ids("j", 8);
    all_complete(&mut rig, &all, 20).await;
    for n in 0..8 {
        let key = rig.key(&format!("reply:j{n}"));
        let replies: usize = rig.connection.llen(&key).await.unwrap();
        let wanted = if n == 0 { 2 } else { usize::from(replied) };
        assert_eq!(replies, wanted, "{key}");
        let life_ms: i64 = rig.connection.pttl(&key).await.unwrap();
        assert_ne!(life_ms, -1, "{key} has no end");
    }
    assert!(worker.counter("xco_worker_script_failures_total").await > 0, "nobody was told");
    let again: Vec<String> = rules.iter().map(|rule| rule.replace('-', "+")).collect();
    let () = cmd("ACL").arg("SETUSER").arg("worker").arg(again).query_async(&mut rig.connection).await.unwrap();
    worker.until_status("/readyz", 200, Duration::from_secs(20)).await;
    // A record of the history written meanwhile gets its expiry with the next one, after the end of this test.
    let rings = ["10s", "1m", "10m"].map(|ring| rig.key(&format!("history:{ring}")));
    let _: u64 = rig.connection.del(&rings[..]).await.unwrap();
    rig.denials().await;
    settle(&mut rig, std::slice::from_mut(&mut worker), &all).await;
}
