//! Number of a worker's connections, and its behaviour when Redis accepts no more.

use super::support::{RedisServer, Rig, Setup, check};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use xco_worker::{contract::Partitions, telemetry::Metrics, worker::Worker, xco::XcoClient};

/// Number of workers' connections.
async fn of_workers(rig: &mut Rig) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut rig.connection).await.unwrap();
    clients.lines().filter(|line| line.contains("user=worker")).count()
}

/// Runs jobs of several callers in each partition, one by one and at once. Returns the maximum number of connections.
async fn with_partitions(partitions: u16) -> usize {
    let mut setup = Setup { redis: RedisServer::own(&["--save", "", "--appendonly", "no"]), ..Setup::default() };
    setup.config.redis.partitions = Partitions::new(partitions).unwrap();
    let mut rig = setup.start().await;
    let mut wanted = 0;
    let mut most = 0;
    for round in 0..4 {
        let mut pipe = redis::pipe();
        for partition in 0..partitions {
            for lane in ["interactive", "bulk"] {
                let job = check(&format!("j{round}-{partition}-{lane}"), "john@example.com");
                pipe.xadd(rig.key_in(partition, &format!("jobs:{lane}")), "*", &[("job", job.to_string())]).ignore();
                wanted += 1;
            }
        }
        pipe.query_async::<()>(&mut rig.connection).await.unwrap();
        most = most.max(of_workers(&mut rig).await);
        rig.follow(120, |completions| completions.len() >= wanted).await;
        most = most.max(of_workers(&mut rig).await);
    }
    rig.stop_workers().await;
    rig.assert_clean().await;
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_do_not_grow_with_the_number_of_partitions() {
    let of_few = with_partitions(6).await;
    let of_many = with_partitions(96).await;
    eprintln!("6 partitions: {of_few}, 96 partitions: {of_many}");
    assert!(of_few <= 60 && of_many <= of_few + 20, "6 partitions: {of_few}, 96 partitions: {of_many}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_many_partitions_outlives_a_lost_group_and_an_emptied_redis() {
    let redis = RedisServer::own(&["--save", "", "--appendonly", "no"]);
    let mut setup = Setup { redis, ..Setup::default() };
    setup.config.redis.partitions = Partitions::new(8).unwrap();
    let mut rig = setup.start().await;
    let enqueue = async |rig: &mut Rig, partition: u16, id: &str| {
        let key = rig.key_in(partition, "jobs:interactive");
        let job = check(id, id).to_string();
        redis::cmd("XADD").arg(key).arg("*").arg("job").arg(job).query_async::<()>(&mut rig.connection).await.unwrap();
    };
    enqueue(&mut rig, 3, "j1").await;
    rig.completion("j1").await;
    let lane = rig.key_in(5, "jobs:interactive");
    let mut destroy = redis::cmd("XGROUP");
    destroy.arg("DESTROY").arg(lane).arg("workers").query_async::<()>(&mut rig.connection).await.unwrap();
    for (partition, id) in [(5, "j2"), (6, "j3")] {
        enqueue(&mut rig, partition, id).await;
        rig.completion(id).await;
    }
    redis::cmd("FLUSHALL").query_async::<()>(&mut rig.connection).await.unwrap();
    for (partition, id) in [(5, "j4"), (0, "j5")] {
        enqueue(&mut rig, partition, id).await;
        rig.completion(id).await;
    }
    rig.stop_workers().await;
    rig.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_no_more_connections_is_named_with_its_remedy() {
    let redis = RedisServer::own(&["--save", "", "--appendonly", "no"]);
    let mut rig = Setup { redis, ..Setup::default() }.without_worker().await;
    let limit = async |rig: &mut Rig, most: usize| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxclients").arg(most);
        set.query_async::<()>(&mut rig.connection).await.unwrap();
    };
    // The test's own connections.
    limit(&mut rig, 3).await;
    let api = Arc::new(XcoClient::new(&rig.config.xco).unwrap());
    let worker = Worker::new(rig.config.clone(), api, Metrics::default()).unwrap();
    let mut health = worker.health().watch();
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker.run(stop.clone()));
    let said = health.wait_for(|state| state.as_ref().is_err_and(|reason| reason.contains("maxclients")));
    let said = tokio::time::timeout(Duration::from_secs(20), said).await.map(|said| said.unwrap().clone());
    let said = said.unwrap_or_else(|_| panic!("it says {:?}", *health.borrow())).unwrap_err();
    assert!(said.contains("raise maxclients"), "{said}");
    limit(&mut rig, 1000).await;
    assert_eq!(rig.complete(check("j1", "john@example.com")).await["status"], "succeeded");
    stop.cancel();
    running.await.unwrap();
    rig.assert_clean().await;
}
