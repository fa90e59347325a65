//! Unreachable servers: Redis at the start, and XCO.

use super::{
    kills::{ids, rig},
    ledger::{all_complete, of, settle},
    process::Process,
    support::{check, free_port},
};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_a_redis_that_is_not_there_yet() {
    let mut rig = rig().await;
    rig.redis.kill();
    let mut worker = Process::spawn(&rig, &[]);
    worker.until_status("/healthz", 200, Duration::from_secs(10)).await;
    // Long enough for several attempts; there is no signal for "still trying".
    sleep(Duration::from_secs(1)).await;
    assert_eq!(worker.get("/readyz").await.map(|(status, _)| status), Some(503));
    assert!(worker.lives());
    rig.redis.restart();
    let took = worker.until_status("/readyz", 200, Duration::from_secs(10)).await;
    rig.follow(5, |_| true).await;
    rig.eventually("a connection of our own", async |rig| {
        let client = redis::Client::open(rig.redis.url()).unwrap();
        match client.get_multiplexed_async_connection().await {
            Ok(connection) => {
                rig.connection = connection;
                true
            }
            Err(_) => false,
        }
    })
    .await;
    let done = rig.complete(check("c", "192.0.2.1")).await;
    assert_eq!(done["outcome"], "absent", "ready after {took:?}");
    settle(&mut rig, &mut [worker], &ids(["c"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_xco_a_job_is_tried_and_given_up() {
    let mut rig = rig().await;
    let nowhere = format!("http://127.0.0.1:{}/", free_port());
    // The wait for a token may take as long as a call.
    let attempts = [("RETRY__MAX_ATTEMPTS", "3"), ("XCO__TIMEOUT", "500ms")];
    let all = ids(["api", "token"]);
    for (id, key) in [("api", "XCO__BASE_URL"), ("token", "XCO__TOKEN_URL")] {
        let mut worker = Process::ready(&rig, &[(key, nowhere.as_str()), attempts[0], attempts[1]]).await;
        let failed = rig.complete(check(id, "192.0.2.1")).await;
        assert_eq!(failed["status"], "failed", "{failed:#}");
        assert_eq!(failed["error"]["kind"], "network", "{failed:#}");
        assert_eq!(failed["error"]["retryable"], true);
        assert_eq!(failed["dead_lettered"], true);
        assert_eq!(worker.get("/healthz").await.map(|(status, _)| status), Some(200));
        worker.stop().await;
    }
    all_complete(&mut rig, &all, 5).await;
    settle(&mut rig, &mut [], &all).await;
    assert_eq!(rig.sandbox.stats().calls, 0);
    assert_eq!(of(&rig, "api")["error"]["kind"], "network");
}
