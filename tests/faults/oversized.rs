//! Entries that are larger than a job may be: they are rejected, and a worker does not load several of them at once.

use super::{
    kills::own_redis,
    process::Process,
    support::{Rig, Setup, check},
};
use redis::cmd;
use std::time::Duration;
use xco_worker::{
    contract::Lane,
    queue::{self, Connector, Keys},
};

/// A worker that needs more memory has read several of them whole.
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

/// Reads that follow each other closely measure what comes next. Behind a backlog, too, no large entry is read whole.
#[tokio::test(flavor = "multi_thread")]
async fn large_entries_behind_a_backlog_are_rejected_within_bounded_memory() {
    const JOBS: usize = 600;
    const LARGE: usize = 28;
    let mut rig = Setup::default().without_worker().await;
    let jobs = (0..JOBS).map(|n| check(&format!("j{n}"), &format!("192.0.2.{}", n % 250)));
    rig.enqueue_all(Lane::Interactive, jobs).await;
    let large = vec![b'x'; 12 << 20];
    for _ in 0..LARGE {
        rig.enqueue_text("interactive", std::str::from_utf8(&large).unwrap()).await;
    }
    let mut worker = Process::ready(&rig, &[]).await;
    rig.wait_for(JOBS + LARGE).await;
    let rejected = rig.completions.iter().filter(|event| event["status"] == "rejected").count();
    assert_eq!(rejected, LARGE);
    if let Some((_, most_kib)) = worker.memory_kib() {
        assert!(most_kib < MOST_KIB, "{most_kib} KiB");
    }
    worker.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_says_whether_what_comes_next_is_light() {
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.without_worker().await;
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    queue::ensure_group(&mut link, &keys).await.unwrap();
    for id in ["a", "b", "c", "d", "e"] {
        rig.enqueue(&check(id, "192.0.2.1")).await;
    }
    let mut read = async |count| {
        let (entries, is_light) =
            queue::read_lane_and_weigh(&mut link, &keys, Lane::Interactive, "me", count).await.unwrap();
        (entries.len(), is_light)
    };
    // Redis does not know the script yet: what was read is not lost, and the next read looks for itself.
    assert_eq!(read(1).await, (1, false));
    let () = cmd("SCRIPT").arg("FLUSH").query_async(&mut rig.connection).await.unwrap();
    assert_eq!(read(1).await, (1, false));
    let mut other = Connector::new(&rig.config.redis).unwrap().link(false);
    assert!(queue::is_light(&mut other, &keys, Lane::Interactive).await.unwrap());
    assert_eq!(read(1).await, (1, true));
    for _ in 0..6 {
        rig.enqueue_text("interactive", &"x".repeat(1 << 20)).await;
    }
    assert_eq!(read(2).await, (2, false));
}

/// Number of bytes that Redis has sent to all clients.
async fn sent(rig: &mut Rig) -> u64 {
    let info: String = cmd("INFO").arg("stats").query_async(&mut rig.connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.unwrap().trim().parse().unwrap()
}

#[rstest::rstest]
#[case::of_a_dead_worker(false)]
#[case::of_nobody(true)]
#[tokio::test(flavor = "multi_thread")]
async fn large_entries_that_are_taken_over_never_leave_redis_whole(#[case] adrift: bool) {
    const LARGE: usize = 12 << 20;
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.without_worker().await;
    let lane = rig.key("jobs:interactive");
    let large = vec![b'x'; LARGE];
    for _ in 0..4 {
        let _: String =
            cmd("XADD").arg(&lane).arg("*").arg("job").arg(&large).query_async(&mut rig.connection).await.unwrap();
    }
    rig.enqueue(&check("neighbour", "192.0.2.1")).await;
    // Read by a worker that has stopped. Here, too, the entries stay in Redis.
    let read = redis::Script::new(
        "redis.call('XGROUP', 'CREATE', KEYS[1], 'workers', '0') \
         redis.call('XREADGROUP', 'GROUP', 'workers', 'gone', 'COUNT', 9, 'STREAMS', KEYS[1], '>') \
         if ARGV[1] == '1' then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'workers', 'gone') end",
    );
    let () = read.key(&lane).arg(u8::from(adrift)).invoke_async(&mut rig.connection).await.unwrap();
    let before = sent(&mut rig).await;
    let mut worker = Process::ready(&rig, &[]).await;
    rig.wait_for(5).await;
    let rejected = rig.completions.iter().filter(|event| event["status"] == "rejected").count();
    assert_eq!(rejected, 4);
    assert_eq!(rig.completion("neighbour").await["outcome"], "absent");
    let sent = sent(&mut rig).await - before;
    assert!(sent < u64::try_from(LARGE).unwrap(), "{sent} bytes left Redis");
    worker.stop().await;
    rig.drain().await;
    rig.assert_clean().await;
}
