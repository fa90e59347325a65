//! The status snapshot through `operations`, without the binary.

use super::{
    dead_replay::write,
    support::{Rig, Setup, check, in_time, with},
};
use redis::AsyncCommands;
use serde_json::json;
use std::time::Duration;
use xco_worker::{
    contract::{Lane, Partitions},
    operations::{
        Actor, Backend, NoProgress, Selector,
        jobs::{self, DelayReason},
        pauses::{self, PauseRequest},
        status::{LaneFigures, SnapshotCollector},
    },
};

fn ada() -> Actor {
    Actor::new("ada", "box")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_shows_what_waits_and_what_an_operator_ordered() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.without_worker().await;
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    let mut collector = SnapshotCollector::start(&mut backend, 100).await.unwrap();
    let empty = collector.collect(&mut backend).await.unwrap();
    assert_eq!((empty.partitions, empty.lanes["bulk"]), (2, LaneFigures::default()), "{empty:#?}");
    assert!(empty.workers.is_empty() && empty.completions.is_empty() && empty.delayed.exact, "{empty:#?}");

    rig.enqueue_all(Lane::Interactive, (0..9).map(|n| check(&format!("j{n}"), &format!("c{n}")))).await;
    // A lane's figures are those of both partitions together.
    for (partition, id) in [(0, "b0"), (1, "b1")] {
        let (key, job) = (rig.key_in(partition, "jobs:bulk"), check(id, "c").to_string());
        rig.connection.xadd::<_, _, _, _, String>(key, "*", &[("job", job)]).await.unwrap();
    }
    write(&mut rig, &check("dead", "c"), "upstream", "").await;
    let jobs = Selector { lane: Some(Lane::Bulk), ..Selector::default() };
    let request = PauseRequest { jobs: jobs.clone(), lasting: Some(Duration::from_secs(60)), reason: None };
    pauses::pause(&mut backend, &ada(), request).await.unwrap();
    let waiting = collector.collect(&mut backend).await.unwrap();
    let (interactive, bulk) = (waiting.lanes["interactive"], waiting.lanes["bulk"]);
    assert_eq!((interactive.waiting, interactive.in_flight, interactive.paused), (9, 0, false), "{waiting:#?}");
    assert_eq!((bulk.waiting, bulk.paused), (2, true), "{waiting:#?}");
    assert_eq!(json!(waiting.dead_letters), json!({"total": 1, "looked_at": 1, "by_kind": {"upstream": 1}}));
    let order = &waiting.orders[0];
    assert_eq!((order.order, &order.jobs, order.who.as_str(), waiting.orders_total), ("pause", &jobs, "ada", 1));
    assert!(order.until.is_some(), "{order:#?}");

    pauses::resume(&mut backend, &ada(), &jobs).await.unwrap();
    rig.start_worker();
    rig.wait_for(11).await;
    rig.eventually("the worker has named itself", async |rig: &mut Rig| {
        rig.connection.hlen::<_, u64>(rig.key("workers")).await.unwrap() == 1
    })
    .await;
    let done = collector.collect(&mut backend).await.unwrap();
    assert_eq!(done.completions["CheckUser"], [("succeeded".to_owned(), 11)].into(), "{done:#?}");
    // Eleven completions since the snapshot before.
    assert!((done.rates.per_second - 11_000.0 / as_f64(done.rates.over_ms)).abs() < 0.01, "{:#?}", done.rates);
    assert_eq!(done.rates.by_status.keys().collect::<Vec<_>>(), ["succeeded"]);
    assert_eq!((done.orders_total, done.lanes["bulk"]), (0, LaneFigures::default()), "{done:#?}");
    assert!(done.workers.len() == 1 && !done.workers[0].is_silent(), "{done:#?}");
    let again = collector.collect(&mut backend).await.unwrap();
    assert!(again.rates.by_status.is_empty(), "nothing has ended since: {:#?}", again.rates);
    rig.end().await;
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(ms: u64) -> f64 {
    ms as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_jobs_are_counted_by_reason_as_far_as_they_are_read() {
    let mut rig = Setup::default().start().await;
    let (config, redis) = (rig.config.clone(), rig.redis_as("operator"));
    let mut backend = Backend::connect(&redis).await.unwrap();
    let batch = |name: &str| Selector { batch: Some(name.to_owned()), ..Selector::default() };
    let pause = PauseRequest { jobs: batch("paused"), lasting: None, reason: None };
    pauses::pause(&mut backend, &ada(), pause).await.unwrap();
    pauses::in_force(&mut backend, Duration::from_secs(10)).await.unwrap();
    let in_an_hour = in_time(Duration::from_secs(3600));
    for n in 0..30 {
        rig.enqueue(&with(with(check(&format!("later-{n}"), "c"), "run_at", in_an_hour.as_str()), "batch", "later"))
            .await;
    }
    for n in 0..10 {
        rig.enqueue(&with(check(&format!("paused-{n}"), "c"), "batch", "paused")).await;
    }
    rig.eventually("all are delayed", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 40
    })
    .await;
    let mut all = SnapshotCollector::start(&mut backend, 1_000).await.unwrap();
    let delayed = all.collect(&mut backend).await.unwrap().delayed;
    assert_eq!(json!(delayed), json!({"total": 40, "by_reason": {"paused": 10, "run_at": 30}, "exact": true}));
    // Nothing of them is read: the total is known all the same.
    let mut few = SnapshotCollector::start(&mut backend, 0).await.unwrap();
    let delayed = few.collect(&mut backend).await.unwrap().delayed;
    assert_eq!((delayed.total, delayed.exact, delayed.by_reason.get(&DelayReason::RunAt)), (40, false, None));

    pauses::resume(&mut backend, &ada(), &batch("paused")).await.unwrap();
    jobs::cancel(&mut backend, &ada(), &config, &batch("later"), &NoProgress).await.unwrap();
    rig.wait_for(40).await;
    rig.end().await;
}
