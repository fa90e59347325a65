//! Entries that are larger than a job may be: they are rejected, and do not come into a worker's memory together.

use super::{
    process::Process,
    support::{Setup, check},
};
use std::time::Duration;

/// A worker that takes more has read several of them whole.
const MOST_KIB: u64 = 300 * 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn many_large_entries_at_once_are_rejected_within_bounded_memory() {
    let mut rig = Setup::default().without_worker().await;
    let mut worker = Process::ready(&rig, &[]).await;
    let large = vec![b'x'; 12 << 20];
    let mut at_once = redis::pipe();
    at_once.atomic();
    for _ in 0..64 {
        at_once.cmd("XADD").arg(rig.key("jobs:interactive")).arg("*").arg("job").arg(&large).ignore();
    }
    let client = redis::Client::open(rig.redis.url()).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
    let mut producer = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let () = at_once.query_async(&mut producer).await.unwrap();
    rig.enqueue(&check("neighbour", "192.0.2.1")).await;
    rig.wait_for(65).await;
    let rejected = rig.completions.iter().filter(|event| event["status"] == "rejected").count();
    assert_eq!(rejected, 64);
    if let Some((_, most_kib)) = worker.memory_kib() {
        assert!(most_kib < MOST_KIB, "{most_kib} KiB");
    }
    worker.stop().await;
    rig.end().await;
}
