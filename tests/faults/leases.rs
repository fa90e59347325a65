//! Workers with different leases, and deliveries that no worker has started.

use super::{
    jobs::{email, ids_of, seed, start},
    kills::{ids, own_redis, rig},
    ledger::{all_complete, calls_by_key, of, settle},
    process::Process,
    proxy::{Chances, Network, Proxy},
    support::{Rig, Setup, as_user, check},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;
use xco_worker::sandbox::{Fault, FaultKind, Route};

/// A rolling change of `worker.lease`: the lease of the worker that has a job counts, not that of the worker that
/// looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_shorter_lease_takes_nothing_from_a_living_one() {
    let mut rig = rig().await;
    let first = Process::ready(&rig, &[("WORKER__LEASE", "15s")]).await;
    rig.sandbox.order(Fault::new(FaultKind::Delay(4_000)).on(Route::Start).times(20));
    let jobs: Vec<_> = (0..20).map(|n| start(&format!("s{n}"))).collect();
    for job in &jobs {
        seed(&rig.sandbox, job["id"].as_str().unwrap());
        rig.enqueue(job).await;
    }
    rig.sandbox.wait_for_calls(20).await;
    let second = Process::ready(&rig, &[("WORKER__LEASE", "1s")]).await;
    let all = ids_of(&jobs);
    all_complete(&mut rig, &all, 20).await;
    settle(&mut rig, &mut [first, second], &all).await;
    for id in &all {
        assert_eq!(of(&rig, id)["outcome"], "otp_sent", "{:#}", of(&rig, id));
        assert_eq!(calls_by_key(&rig, Route::Start)[&email(id)].len(), 1);
    }
}

/// A worker with a longer lease does not wait for its own lease if that of the lost worker was shorter.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_workers_jobs_are_taken_over_after_its_own_lease() {
    let mut rig = rig().await;
    let mut first = Process::ready(&rig, &[("WORKER__LEASE", "1s")]).await;
    rig.sandbox.order(Fault::hang().on(Route::Exists).times(6));
    for n in 0..6 {
        rig.enqueue(&check(&format!("c{n}"), &format!("192.0.2.{n}"))).await;
    }
    rig.sandbox.wait_for_calls(6).await;
    let second = Process::ready(&rig, &[("WORKER__LEASE", "10m")]).await;
    first.kill();
    let all = ids(["c0", "c1", "c2", "c3", "c4", "c5"]);
    all_complete(&mut rig, &all, 30).await;
    settle(&mut rig, &mut [second], &all).await;
    assert!(all.iter().all(|id| of(&rig, id)["attempts"] == 2));
}

/// The reply to a read is lost, so no worker started the job. This counts neither as the loss of a worker nor as a
/// call.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_reading_was_lost_has_lost_no_worker_and_made_no_call() {
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.without_worker().await;
    let proxy = Proxy::start(rig.redis.url(), Chances::default(), 1).await;
    proxy.calm();
    let url = as_user(&proxy.url(), "worker");
    // The loss of a single worker would give the job up.
    let settings = [("REDIS__URL", url.as_str()), ("WORKER__MAX_DELIVERIES", "1")];
    let worker = Process::ready(&rig, &settings).await;
    let (mut all, mut lost) = (BTreeSet::new(), BTreeSet::new());
    while lost.len() < 4 {
        let id = format!("j{}", all.len());
        assert!(all.len() < 60, "no read was under way");
        seed(&rig.sandbox, &id);
        // Redis has received the read, and its reply will not arrive.
        proxy.set(Network::Stalled);
        rig.enqueue(&if all.len().is_multiple_of(2) { check(&id, &id) } else { start(&id) }).await;
        for _ in 0..50 {
            if is_delivered(&mut rig).await {
                lost.insert(id.clone());
                proxy.cut();
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        proxy.calm();
        all.insert(id);
        all_complete(&mut rig, &all, 30).await;
    }
    settle(&mut rig, &mut [worker], &all).await;
    for id in &all {
        assert_eq!(of(&rig, id)["status"], "succeeded", "{:#}", of(&rig, id));
        assert_eq!(of(&rig, id)["attempts"], 1, "{:#}", of(&rig, id));
    }
}

async fn is_delivered(rig: &mut Rig) -> bool {
    let key = rig.key("jobs:interactive");
    let summary: redis::RedisResult<redis::Value> =
        redis::cmd("XPENDING").arg(&key).arg("workers").query_async(&mut rig.connection).await;
    // An error means that the worker has not created its group yet.
    matches!(summary, Ok(redis::Value::Array(parts)) if parts.first() == Some(&redis::Value::Int(1)))
}

/// A job that crashes workers during an unsafe call is given up in doubt, not only as a crash loop.
#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_call_that_brings_workers_down_is_in_doubt() {
    let mut rig = rig().await;
    let settings = [("WORKER__MAX_DELIVERIES", "1")];
    for (route, job) in [(Route::Start, start("s")), (Route::Create, super::jobs::create("u"))] {
        let id = job["id"].as_str().unwrap().to_owned();
        seed(&rig.sandbox, "s");
        rig.sandbox.order(Fault::hang().on(route).after_effect());
        let mut first = Process::ready(&rig, &settings).await;
        let before = rig.sandbox.stats().calls;
        rig.enqueue(&job).await;
        rig.sandbox.wait_for_calls(before + 1).await;
        first.kill();
        let second = Process::ready(&rig, &settings).await;
        let event = rig.completion(&id).await;
        assert_eq!(event["error"]["kind"], "in_doubt", "{event:#}");
        assert_eq!(rig.sandbox.stats().calls, before + 1);
        drop(second);
    }
}
