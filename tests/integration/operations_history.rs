//! The history of the queue: recorded by workers and by operations, read as points.

use super::support::{Setup, check};
use redis::AsyncCommands;
use xco_worker::operations::{
    Backend,
    history::{self, Range},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_recorded_once_and_read_by_each_range() {
    let mut rig = Setup::default().without_worker().await;
    for number in 0..3 {
        rig.enqueue(&check(&format!("job-{number}"), "c")).await;
    }
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    assert!(history::read(&mut backend, Range::Hour).await.unwrap().is_empty());
    assert!(history::record_step(&mut backend).await.unwrap());
    assert!(!history::record_step(&mut backend).await.unwrap(), "another process has the step");
    for range in [Range::Hour, Range::HalfDay, Range::Week] {
        let points = history::read(&mut backend, range).await.unwrap();
        assert_eq!(points.len(), 1, "{range:?}");
        let lane = points[0].lanes["interactive"];
        assert_eq!((lane.waiting, lane.in_flight, points[0].workers), (3, 0, 0));
        assert!(points[0].since.is_none());
    }
    // The rings have their full size from the beginning, and expire.
    for (ring, bytes) in [("10s", 92_160_u64), ("1m", 184_320), ("10m", 258_048)] {
        let key = rig.key(&format!("history:{ring}"));
        let length: u64 = rig.connection.strlen(&key).await.unwrap();
        let life: i64 = rig.connection.ttl(&key).await.unwrap();
        assert!(length == bytes && life > 600_000, "{ring}: {length} bytes for {life} s");
        let used: u64 = redis::cmd("MEMORY").arg("USAGE").arg(&key).query_async(&mut rig.connection).await.unwrap();
        assert!(used < bytes + bytes / 10, "{ring}: {used} bytes of memory");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_is_not_shown() {
    let mut rig = Setup::default().without_worker().await;
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    let key = rig.key("history:10s");
    let _: () = rig.connection.set(&key, vec![0xff_u8; 5_000_000]).await.unwrap();
    assert!(history::read(&mut backend, Range::Hour).await.unwrap().is_empty());
    assert!(history::record_step(&mut backend).await.unwrap());
    assert_eq!(history::read(&mut backend, Range::Hour).await.unwrap().len(), 1);
    // A ring that has lost its expiry gets it back with the next record.
    let _: () = rig.connection.persist(&key).await.unwrap();
    let latency = rig.key("latency");
    let _: () = rig.connection.hset_multiple(&latency, &[("i0", "no number"), ("x3", "-7")]).await.unwrap();
    let turn = rig.key("history:turn");
    let _: () = rig.connection.del(&turn).await.unwrap();
    assert!(history::record_step(&mut backend).await.unwrap());
    let life_s: i64 = rig.connection.ttl(&key).await.unwrap();
    assert!(life_s > 0, "{life_s}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_record_what_jobs_took() {
    const JOBS: usize = 200;
    let mut rig = Setup::default().start().await;
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    // Among that many, some calls take less than a millisecond. They count as well.
    for number in 0..JOBS {
        rig.enqueue(&check(&format!("job-{number}"), &format!("c-{number}"))).await;
    }
    rig.wait_for(JOBS).await;
    let latency = rig.key("latency");
    rig.eventually("the jobs are in the histograms", async |rig| {
        let counts: std::collections::BTreeMap<String, usize> = rig.connection.hgetall(&latency).await.unwrap();
        let sum = |start: char| counts.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, count)| count).sum();
        let (people, xco): (usize, usize) = (sum('i'), sum('x'));
        (people, xco) == (JOBS, JOBS)
    })
    .await;
    rig.eventually("a worker has recorded a step with the jobs", async |_| {
        let points = history::read(&mut backend, Range::Hour).await.unwrap();
        points.iter().any(|point| point.workers == 1)
    })
    .await;
    rig.end().await;
}
