//! Redis is full (`OOM` under `noeviction`): running jobs end, no job starts, nothing is lost.

use super::{
    idle_budget::Rest,
    jobs::{email, ids_of, seed, start},
    kills::own_redis,
    ledger::{all_complete, assert_no_blind_repetition, calls_by_key, of, settle},
    process::Process,
    producer::produce,
    support::{Rig, Setup, check},
};
use redis::cmd;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use xco_worker::sandbox::{Fault, FaultKind, Latency, Route};

async fn limit_memory(rig: &mut Rig, bytes: u64) {
    let _: redis::Value =
        cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query_async(&mut rig.connection).await.unwrap();
}

/// A fault that answers calls with a refusal.
fn refusal(status: u16, retry_after: Option<&str>) -> Fault {
    Fault::new(FaultKind::Status { status, retry_after: retry_after.map(str::to_owned), body: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_is_told_every_end_and_begins_nothing() {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    // Long enough for Redis to be full before the first call ends.
    setup.sandbox.latency = Latency::fixed(Duration::from_secs(2));
    let mut rig = setup.without_worker().await;
    let settings = [("WORKER__CONCURRENCY", "5"), ("WORKER__ADAPTIVE", "false"), ("QUEUE__TTL__START_OTP", "off")];
    let mut worker = Process::ready(&rig, &settings).await;
    // Five ends, each by another script or another branch: two completions, a retry, a 429 that delays its job, and a
    // 429 whose deadline comes before the caller's limit opens again.
    let mut late = start("late");
    late["ttl_ms"] = json!(20_000);
    let calls = [
        (start("closed"), Some(refusal(429, Some("1")).on(Route::Start))),
        (late, Some(refusal(429, Some("60")).on(Route::Start))),
        (check("again", "192.0.2.2"), Some(refusal(503, None).on(Route::Exists))),
        (start("sent"), None),
        (check("done", "192.0.2.1"), None),
    ];
    let mut all: BTreeSet<String> = ["closed", "late", "again", "sent", "done"].map(str::to_owned).into();
    for (count, (job, fault)) in calls.into_iter().enumerate() {
        seed(&rig.sandbox, job["id"].as_str().unwrap());
        if let Some(fault) = fault {
            rig.sandbox.order(fault);
        }
        rig.enqueue(&job).await;
        rig.sandbox.wait_for_calls(u64::try_from(count + 1).unwrap()).await;
    }
    let waiting: Vec<_> = (0..100).map(|n| check(&format!("w{n}"), &format!("w{n}"))).collect();
    all.extend(ids_of(&waiting));
    produce(&rig.redis.url_as("producer"), rig.key("jobs:interactive"), waiting, Duration::ZERO).await.unwrap();
    limit_memory(&mut rig, 1).await;
    assert!(rig.completions.is_empty(), "the test was too slow to mean anything");

    all_complete(&mut rig, &["sent", "done", "late"].map(str::to_owned).into(), 10).await;
    assert_eq!(of(&rig, "late")["error"]["kind"], "rate_limited");
    // They may be due by then: a full Redis promotes jobs, too.
    rig.eventually("two wait", async |rig| {
        let mut asked = redis::pipe();
        asked.cmd("ZCARD").arg(rig.key("delayed")).cmd("XLEN").arg(rig.key("due:interactive"));
        let (parked, due): (u64, u64) = asked.query_async(&mut rig.connection).await.unwrap();
        parked + due == 2
    })
    .await;
    let rest = Rest::begins(&mut worker, "OOM").await;
    rest.lasts(&mut worker, Duration::from_secs(4)).await;
    assert_eq!(rig.sandbox.stats().calls, 5, "nothing was begun");
    let (taken, ..): (u64, redis::Value, redis::Value, redis::Value) =
        cmd("XPENDING").arg(rig.key("jobs:interactive")).arg("workers").query_async(&mut rig.connection).await.unwrap();
    assert!(taken <= 20, "{taken} jobs were read of which none could be begun");

    limit_memory(&mut rig, 0).await;
    let took = worker.until_status("/readyz", 200, Duration::from_secs(10)).await;
    let helper = Process::ready(&rig, &[("WORKER__CONCURRENCY", "100")]).await;
    all_complete(&mut rig, &all, 30).await;
    settle(&mut rig, &mut [worker, helper], &all).await;
    assert_no_blind_repetition(&rig);
    assert_eq!(calls_by_key(&rig, Route::Start)[&email("sent")].len(), 1);
    assert_eq!(of(&rig, "closed")["outcome"], "otp_sent");
    assert_eq!(of(&rig, "again")["outcome"], "exists");
    println!("{taken} had been read; ready {took:?} after");
}
