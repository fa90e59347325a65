//! The library's subscriber, as a web tier uses it.

use super::support::{RedisServer, Setup, check};
use redis::AsyncCommands;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use xco_worker::{
    completions::{Completed, Filter, Membership, Options, Start, Subscriber, Waiter},
    contract::{JobType, Partitions, Status, partition_of},
};

async fn read(subscriber: &mut Subscriber, count: usize) -> Vec<Completed> {
    let mut read = Vec::new();
    while read.len() < count {
        let batch = timeout(Duration::from_secs(20), subscriber.next()).await.expect("in time").unwrap();
        assert!(!batch.is_empty());
        read.extend(batch);
    }
    read
}

fn ids(completions: &[Completed]) -> Vec<&str> {
    let mut ids: Vec<_> = completions.iter().map(|completed| completed.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_are_read_from_where_one_asks() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(3).unwrap();
    let mut rig = setup.start().await;
    let redis = rig.redis_as("reader");
    let enqueue = async |rig: &mut super::support::Rig, n: u32| {
        let caller = format!("192.0.2.{n}");
        let key = rig.key_in(partition_of(&caller, Partitions::new(3).unwrap()), "jobs:interactive");
        let job = check(&format!("p{n}"), &caller).to_string();
        let _: String = rig.connection.xadd(key, "*", &[("job", job)]).await.unwrap();
    };
    for n in 0..9 {
        enqueue(&mut rig, n).await;
    }
    let options = Options { start: Start::Beginning, batch: 2, ..Options::default() };
    let mut all = Subscriber::start(&redis, options).await.unwrap();
    let first = read(&mut all, 9).await;
    assert_eq!(ids(&first), ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8"]);
    assert!(first.iter().any(|completed| completed.partition != first[0].partition));
    assert_eq!((first[0].job_type, first[0].status), (Some(JobType::CheckUser), Status::Succeeded));

    let mut now = Subscriber::start(&redis, Options::default()).await.unwrap();
    let filter = Filter { id: Some("p10".to_owned()), ..Filter::default() };
    let mut one = Subscriber::start(&redis, Options { filter, ..Options::default() }).await.unwrap();
    enqueue(&mut rig, 9).await;
    enqueue(&mut rig, 10).await;
    assert_eq!(ids(&read(&mut now, 2).await), ["p10", "p9"]);
    assert_eq!(ids(&read(&mut one, 1).await), ["p10"]);

    // A web tier that remembers what it read last continues there.
    let mut last = BTreeMap::new();
    for completed in &first {
        last.insert(completed.partition, completed.entry_id);
    }
    let options = Options { start: Start::AfterEach(last), ..Options::default() };
    let mut later = Subscriber::start(&redis, options).await.unwrap();
    assert_eq!(ids(&read(&mut later, 2).await), ["p10", "p9"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_did_not_acknowledge_comes_again() {
    let mut rig = Setup::default().start().await;
    let redis = rig.redis_as("reader");
    for n in 0..4 {
        rig.enqueue(&check(&format!("a{n}"), &format!("192.0.2.{n}"))).await;
    }
    rig.wait_for(4).await;
    let options = |consumer: &str| Options {
        start: Start::Beginning,
        membership: Some(Membership::new("web", consumer)),
        ..Options::default()
    };
    let mut first = Subscriber::start(&redis, options("one")).await.unwrap();
    let batch = read(&mut first, 4).await;
    first.acknowledge(&batch[..1]).await.unwrap();
    let acknowledged = batch[0].id.clone();
    // A crash: nothing is handed back. Under its old name it gets the rest again.
    drop(first);
    let mut again = Subscriber::start(&redis, options("one")).await.unwrap();
    let batch = read(&mut again, 3).await;
    assert!(batch.iter().all(|completed| completed.id != acknowledged));
    again.acknowledge(&batch[..1]).await.unwrap();
    // After a proper close another reader gets the rest at once.
    again.close().await.unwrap();
    let mut other = Subscriber::start(&redis, options("two")).await.unwrap();
    let batch = read(&mut other, 2).await;
    other.acknowledge(&batch).await.unwrap();
    let key = rig.key("completions");
    let pending: redis::streams::StreamPendingReply = rig.connection.xpending(&key, "web").await.unwrap();
    assert_eq!(pending.count(), 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_outlast_redis_and_miss_nothing() {
    let redis = RedisServer::own(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let mut rig = Setup { redis, ..Setup::default() }.start().await;
    let redis = rig.redis_as("reader");
    let mut alone = Subscriber::start(&redis, Options::default()).await.unwrap();
    let membership = Some(Membership::new("web", "one"));
    let mut member = Subscriber::start(&redis, Options { membership, ..Options::default() }).await.unwrap();
    let waiter = Waiter::new(&rig.redis_as("operator"), 0).await.unwrap();
    rig.complete(check("before", "192.0.2.1")).await;
    assert_eq!(ids(&read(&mut alone, 1).await), ["before"]);
    let batch = read(&mut member, 1).await;
    member.acknowledge(&batch).await.unwrap();

    let waiting = tokio::spawn(waiter.wait_for("after", Duration::from_secs(20)));
    rig.redis.kill();
    rig.redis.restart();
    let enqueued = rig.redis.url().to_owned();
    rig.connection = redis::Client::open(enqueued).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut job = check("after", "192.0.2.2");
    job["reply"] = true.into();
    rig.complete(job).await;
    assert_eq!(ids(&read(&mut alone, 1).await), ["after"]);
    let batch = read(&mut member, 1).await;
    assert_eq!(ids(&batch), ["after"]);
    member.acknowledge(&batch).await.unwrap();
    let event = waiting.await.unwrap().unwrap().expect("a completion");
    assert_eq!(event["id"], "after");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_gives_up_in_time() {
    let rig = Setup::default().without_worker().await;
    let waiter = Waiter::new(&rig.redis_as("operator"), 0).await.unwrap();
    let none = timeout(Duration::from_secs(5), waiter.wait_for("nobody", Duration::from_millis(50))).await;
    assert_eq!(none.expect("in time").unwrap(), None);
    rig.end().await;
}
