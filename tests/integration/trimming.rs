//! The completions' bounds hold at any rate, and a slow reader is informed of what it missed.

use super::support::{Rig, Setup, check};
use redis::AsyncCommands;
use std::time::Duration;
use tokio::time::timeout;
use xco_worker::completions::{Completed, Gap, Membership, Options, Start, Subscriber};

const MAX_BYTES: u64 = 256 * 1024;

async fn bytes(rig: &mut Rig) -> u64 {
    let key = rig.key("completions");
    redis::cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0).query_async(&mut rig.connection).await.unwrap()
}

/// Enqueues jobs that are rejected at once, and waits until all have ended.
async fn flood(rig: &mut Rig, jobs: usize) {
    let mut pipe = redis::pipe();
    for n in 0..jobs {
        let job = format!(r#"{{"id":"flood-{n}","type":"Nothing","meta":{{"pad":"{}"}}}}"#, "x".repeat(200));
        pipe.cmd("XADD").arg(rig.key("jobs:bulk")).arg("*").arg("job").arg(job).ignore();
    }
    let () = pipe.query_async(&mut rig.connection).await.unwrap();
    rig.eventually("all have ended", async |rig| {
        let waiting: usize = rig.connection.xlen(rig.key("jobs:bulk")).await.unwrap();
        waiting == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_are_trimmed_when_their_bytes_are_passed() {
    let mut setup = Setup::default();
    setup.config.completions.max_bytes = MAX_BYTES;
    let mut rig = setup.start().await;
    rig.complete(check("first", "ip")).await;
    // A group that reads nothing is no reason to keep more.
    let group = rig.key("completions");
    let () = redis::cmd("XGROUP")
        .arg("CREATE")
        .arg(group)
        .arg("stuck")
        .arg("0")
        .query_async(&mut rig.connection)
        .await
        .unwrap();
    for _ in 0..3 {
        flood(&mut rig, 2000).await;
        // The latest writes may still have to be trimmed, but must not wait for the next regular look.
        rig.eventually("the bytes are within the bound", async |rig| bytes(rig).await <= MAX_BYTES).await;
    }
    let kept = bytes(&mut rig).await;
    assert!(kept > MAX_BYTES / 2, "{kept}: no more than needed is trimmed");
    let added: u64 = rig.connection.hget(rig.key("stats"), ":rejected").await.unwrap();
    assert_eq!(added, 6000, "all have ended");
}

async fn read(subscriber: &mut Subscriber, count: usize) -> Vec<Completed> {
    let mut read = Vec::new();
    while read.len() < count {
        read.extend(timeout(Duration::from_secs(20), subscriber.next()).await.expect("in time").unwrap());
    }
    read
}

async fn trim_to(rig: &mut Rig, kept: usize) {
    let key = rig.key("completions");
    let _: u64 = redis::cmd("XTRIM").arg(key).arg("MAXLEN").arg(kept).query_async(&mut rig.connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_lags_is_told_how_many_it_missed() {
    let mut rig = Setup::default().start().await;
    let redis = rig.redis_as("reader");
    rig.complete(check("first", "ip")).await;
    let mut now = Subscriber::start(&redis, Options { batch: 10, ..Options::default() }).await.unwrap();
    flood(&mut rig, 10).await;
    // One batch was read, and one waits to be taken: no more is read ahead.
    assert_eq!(read(&mut now, 10).await.len(), 10);
    flood(&mut rig, 200).await;
    let mut got = read(&mut now, 1).await;
    trim_to(&mut rig, 50).await;
    // Jobs end in parallel: it is not known which completion is written last.
    let newest: redis::streams::StreamRangeReply =
        rig.connection.xrevrange_count(rig.key("completions"), "+", "-", 1).await.unwrap();
    let newest = &newest.ids[0].id;
    while got.last().is_none_or(|completed| completed.entry_id.to_string() != *newest) {
        got.extend(read(&mut now, 1).await);
    }
    // Completions read before the trim are not lost.
    let gaps = now.gaps();
    let lost: u64 = gaps.iter().map(|gap| gap.lost.unwrap()).sum();
    assert_eq!(got.len() as u64 + lost, 200, "{gaps:?}");
    assert!(lost > 0);

    // A reader that returns to a removed position is informed of a possible gap. A reader at the end of the stream is
    // not.
    let after = got[0].entry_id;
    trim_to(&mut rig, 5).await;
    let mut back =
        Subscriber::start(&redis, Options { start: Start::After(after), ..Options::default() }).await.unwrap();
    read(&mut back, 5).await;
    assert_eq!(back.gaps(), [Gap { partition: 0, after, lost: None }]);
    let newest = got.last().unwrap().entry_id;
    let options = Options { start: Start::After(newest), ..Options::default() };
    let mut there = Subscriber::start(&redis, options).await.unwrap();
    flood(&mut rig, 1).await;
    read(&mut there, 1).await;
    assert!(there.gaps().is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_comes_back_is_told_how_many_it_missed() {
    let mut rig = Setup::default().start().await;
    let redis = rig.redis_as("reader");
    let options = || Options {
        start: Start::Beginning,
        membership: Some(Membership::new("shop", "web")),
        batch: 10,
        ..Options::default()
    };
    rig.complete(check("first", "ip")).await;
    let mut member = Subscriber::start(&redis, options()).await.unwrap();
    let first = read(&mut member, 1).await;
    member.acknowledge(&first).await.unwrap();
    member.close().await.unwrap();
    flood(&mut rig, 100).await;
    trim_to(&mut rig, 20).await;
    let mut member = Subscriber::start(&redis, options()).await.unwrap();
    let rest = read(&mut member, 20).await;
    assert_eq!(rest.len(), 20);
    assert_eq!(member.gaps(), [Gap { partition: 0, after: first[0].entry_id, lost: Some(80) }]);
    member.acknowledge(&rest).await.unwrap();
    flood(&mut rig, 10).await;
    read(&mut member, 10).await;
    assert!(member.gaps().is_empty());
    rig.end().await;
}
