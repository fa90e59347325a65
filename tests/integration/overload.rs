//! The two bounds of the completion stream, and groups that read it or do not.

use super::{
    commands::{json_lines, pointed},
    support::{Rig, Setup, check},
};
use redis::cmd;
use std::time::Duration;
use xco_worker::queue::{Connector, Keys, Link, maintenance};

const AGES: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Old completions in the worker's format, about 1 KiB each.
async fn completions(rig: &mut Rig, n: usize) {
    let event = "x".repeat(1000);
    let mut batch = redis::pipe();
    for n in 0..n {
        let mut add = cmd("XADD");
        add.arg(rig.key("completions"))
            .arg(format!("1600000000000-{}", n + 1))
            .arg("id")
            .arg(n)
            .arg("type")
            .arg("CheckUser");
        batch.add_command(add.arg("status").arg("succeeded").arg("event").arg(&event).clone()).ignore();
    }
    let () = batch.query_async(&mut rig.connection).await.unwrap();
}

async fn group(rig: &mut Rig, name: &str) {
    let _: redis::Value = cmd("XGROUP")
        .arg(&["CREATE", &rig.key("completions"), name, "0", "MKSTREAM"])
        .query_async(&mut rig.connection)
        .await
        .unwrap();
}

/// Reads `n` completions for a group and acknowledges them.
async fn read(rig: &mut Rig, name: &str, n: usize) {
    let key = rig.key("completions");
    let read: redis::streams::StreamReadReply = cmd("XREADGROUP")
        .arg(&["GROUP", name, "reader", "COUNT", &n.to_string(), "STREAMS", &key, ">"])
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    let ids: Vec<&str> = read.keys[0].ids.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids.len(), n);
    let _: u64 = cmd("XACK").arg(&key).arg(name).arg(&ids).query_async(&mut rig.connection).await.unwrap();
}

async fn length(rig: &mut Rig) -> usize {
    cmd("XLEN").arg(rig.key("completions")).query_async(&mut rig.connection).await.unwrap()
}

async fn set_up() -> (Rig, Link, Keys) {
    let rig = Setup::default().without_worker().await;
    let link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    (rig, link, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn age_never_trims_past_the_slowest_group_and_the_byte_budget_does_and_says_so() {
    let (mut rig, mut link, keys) = set_up().await;
    completions(&mut rig, 2000).await;
    group(&mut rig, "quick").await;
    group(&mut rig, "slow").await;
    read(&mut rig, "quick", 2000).await;
    read(&mut rig, "slow", 500).await;

    let by_age = maintenance::trim_completions(&mut link, &keys, Duration::ZERO, u64::MAX).await.unwrap();
    assert!(by_age.removed > 0 && by_age.removed < 500, "{by_age:?}");
    assert!(!by_age.past_readers, "within the budget nobody loses anything");
    read(&mut rig, "slow", 100).await;

    let by_bytes = maintenance::trim_completions(&mut link, &keys, AGES, 500_000).await.unwrap();
    assert!(by_bytes.past_readers, "{by_bytes:?}");
    assert!(length(&mut rig).await < 600, "the budget holds, whoever has not read");

    // The group that lost completions is behind by what is left. The one that reads misses nothing.
    let groups = maintenance::reader_groups(&mut link, &keys.completions).await.unwrap();
    let mut behind = Vec::new();
    for group in &groups {
        if maintenance::oldest_unread(&mut link, &keys.completions, group).await.unwrap().is_some() {
            behind.push(group.name.as_str());
        }
    }
    assert_eq!(behind, ["slow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_byte_budget_alarms_nobody_where_every_group_has_read() {
    let (mut rig, mut link, keys) = set_up().await;
    completions(&mut rig, 2000).await;
    group(&mut rig, "quick").await;
    read(&mut rig, "quick", 2000).await;
    let trimmed = maintenance::trim_completions(&mut link, &keys, AGES, 500_000).await.unwrap();
    assert!(trimmed.removed > 1000 && !trimmed.past_readers, "{trimmed:?}");
}

/// A completion that was delivered and not acknowledged does not count as read.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_was_given_and_has_not_acknowledged_is_kept() {
    let (mut rig, mut link, keys) = set_up().await;
    completions(&mut rig, 1000).await;
    group(&mut rig, "shop").await;
    let key = rig.key("completions");
    let _: redis::Value = cmd("XREADGROUP")
        .arg(&["GROUP", "shop", "reader", "COUNT", "1000", "STREAMS", &key, ">"])
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    let trimmed = maintenance::trim_completions(&mut link, &keys, Duration::ZERO, u64::MAX).await.unwrap();
    assert_eq!((trimmed.removed, length(&mut rig).await), (0, 1000));
    let groups = maintenance::reader_groups(&mut link, &key).await.unwrap();
    assert!(maintenance::oldest_unread(&mut link, &key, &groups[0]).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_a_lane_that_holds_too_much_and_a_group_that_nobody_reads_for() {
    let (mut rig, mut link, keys) = set_up().await;
    xco_worker::queue::ensure_group(&mut link, &keys).await.unwrap();
    let _: redis::Value = cmd("XGROUP")
        .arg(&["CREATECONSUMER", &rig.key("jobs:bulk"), "workers", "a-worker"])
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    for n in 0..3 {
        rig.enqueue(&check(&format!("j{n}"), "192.0.2.1")).await;
    }
    // An old completion.
    let _: String = cmd("XADD")
        .arg(&[&rig.key("completions"), "1000-0", "id", "old"])
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    group(&mut rig, "gone").await;
    let folder = tempfile::tempdir().unwrap();
    let mut doctor = pointed(&folder, &rig);
    doctor.env("XCO_WORKER__QUEUE__MAX_PENDING", "2").args(["doctor", "--json"]);
    let checks = json_lines(&doctor.assert().code(0).get_output().stdout);
    for (name, told) in
        [("queue", "interactive holds 3, more than the 2 it may"), ("completions", "group gone is behind by")]
    {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(check["status"], "warn", "{check:#}");
        assert!(check["detail"].as_str().unwrap().contains(told), "{check:#}");
    }
}
