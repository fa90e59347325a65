//! The index of ids: it answers duplicates, it leads to completions, and it knows what former versions reserved.

use super::{
    backfill::environment,
    support::{Rig, Setup, check, in_time, with},
};
use assert_cmd::Command;
use predicates::str::contains;
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::time::Duration;
use xco_worker::queue::{
    Connector, Keys,
    index::{Located, locate},
};
use xco_worker::sandbox::Fault;

async fn located(rig: &Rig, id: &str) -> Option<Located> {
    let mut link = Connector::new(&rig.redis_as("operator")).unwrap().link(false);
    locate(&mut link, &Keys::new(&rig.config.redis.namespace, 0), id).await.unwrap()
}

async fn now_ms(rig: &mut Rig) -> u64 {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut rig.connection).await.unwrap();
    seconds * 1000 + micros / 1000
}

async fn replies(rig: &mut Rig, id: &str) -> Vec<Value> {
    let list: Vec<String> = rig.connection.lrange(rig.key(&format!("reply:{id}")), 0, -1).await.unwrap();
    list.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

async fn lane_is_empty(rig: &mut Rig) {
    rig.eventually("the lane is empty", async |rig| {
        let waiting: u64 = rig.connection.xlen(rig.key("jobs:interactive")).await.unwrap();
        waiting == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_leads_to_where_its_job_is_and_then_to_its_completion() {
    let mut rig = Setup::default().start().await;
    assert_eq!(located(&rig, "job").await, None);
    let entry = rig.enqueue(&with(check("job", "ip"), "run_at", in_time(Duration::from_millis(700)))).await;
    rig.eventually("it is reserved", async |rig| !rig.reserved("job").await.is_empty()).await;
    let waiting = located(&rig, "job").await.unwrap();
    assert_eq!(waiting.origin.to_string(), format!("interactive:0:{entry}"));
    assert_eq!(waiting.ended, None);

    let event = rig.completion("job").await;
    let ended = located(&rig, "job").await.unwrap();
    assert_eq!(ended.origin, waiting.origin);
    let entry = ended.ended.unwrap().to_string();
    let list: redis::streams::StreamRangeReply =
        rig.connection.xrange(rig.key("completions"), &entry, &entry).await.unwrap();
    let found: String = list.ids[0].get("event").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), event);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_finds_a_jobs_end_behind_any_number_of_completions() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(503).times(1));
    rig.complete(check("early", "ip")).await;
    rig.complete(with(check("failed", "ip"), "max_attempts", 1)).await;
    let (completions, dead) = (rig.key("completions"), rig.key("dead"));
    let many = "local entry for n = 1, 120000 do \
                    entry = redis.call('XADD', KEYS[1], '*', 'id', 'other', 'event', '{}') \
                end return entry";
    for stream in [&completions, &dead] {
        let _: String = redis::cmd("EVAL").arg(many).arg(1).arg(stream).query_async(&mut rig.connection).await.unwrap();
    }
    for (id, status) in [("early", "succeeded"), ("failed", "failed")] {
        let mut why = Command::cargo_bin("xco-worker").unwrap();
        why.env_clear().envs(environment(&rig)).args(["why", id]).assert().code(0).stdout(contains(status));
    }
    // The rig looks at every completion.
    rig.stop_workers().await;
    let _: u64 = rig.connection.del(&[completions, dead]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_job_is_not_in_the_index() {
    let mut rig = Setup::default().start().await;
    let mut wrong = check("job", "ip");
    wrong["args"]["email"] = json!("nonsense");
    assert_eq!(rig.complete(wrong).await["status"], "rejected");
    assert_eq!(located(&rig, "job").await, None);
    rig.completions.clear();
    assert_eq!(rig.complete(check("job", "ip")).await["status"], "succeeded");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_that_asks_for_a_reply_gets_the_known_completion() {
    let mut rig = Setup::default().start().await;
    let event = rig.complete(check("job", "ip")).await;
    let duplicate = with(check("job", "ip"), "reply", true);
    rig.enqueue(&duplicate).await;
    let key = rig.key("reply:job");
    let (_, reply): (String, String) = rig.connection.blpop(&key, 10.0).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&reply).unwrap(), event);

    // Each that asks is answered, and what nobody fetches expires.
    lane_is_empty(&mut rig).await;
    rig.enqueue(&duplicate).await;
    rig.enqueue(&duplicate).await;
    lane_is_empty(&mut rig).await;
    assert_eq!(replies(&mut rig, "job").await, [event.clone(), event]);
    let life: i64 = rig.connection.pttl(&key).await.unwrap();
    assert!(life > 0);
    assert_eq!(rig.sandbox.stats().calls, 1);

    // A completion that was trimmed cannot be pushed.
    let _: u64 = rig.connection.del(&key).await.unwrap();
    let _: u64 = rig.connection.xtrim(rig.key("completions"), redis::streams::StreamMaxlen::Equals(0)).await.unwrap();
    rig.enqueue(&duplicate).await;
    lane_is_empty(&mut rig).await;
    assert!(replies(&mut rig, "job").await.is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_a_job_that_has_not_ended_gets_no_reply() {
    let mut rig = Setup::default().start().await;
    rig.enqueue(&with(check("job", "ip"), "run_at", in_time(Duration::from_millis(1500)))).await;
    rig.enqueue(&with(check("job", "ip"), "reply", true)).await;
    lane_is_empty(&mut rig).await;
    rig.completion("job").await;
    assert!(replies(&mut rig, "job").await.is_empty());
    rig.end().await;
}

/// Writes a reservation as former versions did.
async fn reserve_as_before(rig: &mut Rig, id: &str, enqueued_ms: u64, window: Duration) {
    let (key, list) = (rig.key(&format!("id:{id}")), rig.key("ids"));
    let reserved_ms = now_ms(rig).await;
    let mut reserve = redis::pipe();
    reserve.cmd("RPUSH").arg(&list).arg(format!("@{reserved_ms}")).arg(&key);
    let life = window + Duration::from_secs(7 * 86_400);
    reserve.cmd("SET").arg(&key).arg(format!("interactive:0:{enqueued_ms}-9")).arg("EX").arg(life.as_secs());
    let _: (u64, String) = reserve.query_async(&mut rig.connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_version_reserved_is_reserved_until_its_window_has_passed() {
    let window = Duration::from_secs(3);
    let mut setup = Setup::default();
    setup.config.queue.dedupe_window = window;
    let mut rig = setup.without_worker().await;
    let enqueued_ms = now_ms(&mut rig).await;
    reserve_as_before(&mut rig, "before", enqueued_ms, window).await;
    let origin = located(&rig, "before").await.unwrap().origin;
    assert_eq!(origin.entry.ms, enqueued_ms);
    rig.start_worker();
    rig.enqueue(&check("before", "ip")).await;
    rig.complete(check("new", "ip")).await;
    // A worker of that version goes on beside this one.
    let enqueued_ms = now_ms(&mut rig).await;
    reserve_as_before(&mut rig, "beside", enqueued_ms, window).await;
    rig.enqueue(&check("beside", "ip")).await;
    rig.enqueue(&check("new", "ip")).await;
    lane_is_empty(&mut rig).await;
    rig.drain().await;
    assert_eq!(rig.completions.len(), 1, "{:#?}", rig.completions);

    rig.eventually("they are forgotten", async |rig| {
        let former: Vec<String> = rig.connection.keys(rig.key("id:*")).await.unwrap();
        let list: bool = rig.connection.exists(rig.key("ids")).await.unwrap();
        former.is_empty() && !list
    })
    .await;
    rig.complete(check("before", "ip")).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_configured_anew_forgets_no_reservation() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("job", "ip")).await;
    rig.stop_workers().await;
    for window in [Duration::from_secs(60), Duration::from_secs(7 * 86_400)] {
        rig.config.queue.dedupe_window = window;
        rig.start_worker();
        rig.enqueue(&check("job", "ip")).await;
        lane_is_empty(&mut rig).await;
        rig.stop_workers().await;
    }
    rig.drain().await;
    assert_eq!(rig.completions.len(), 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_can_be_looked_up_for_longer_than_its_id_is_reserved() {
    let mut setup = Setup::default();
    setup.config.queue.dedupe_window = Duration::from_millis(200);
    setup.config.queue.index_retention = Duration::from_secs(60);
    let mut rig = setup.start().await;
    rig.complete(check("job", "ip")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(located(&rig, "job").await.unwrap().ended.is_some());
    // It is not reserved any more.
    rig.completions.clear();
    rig.complete(check("job", "ip")).await;
    assert_eq!(rig.reserved("job").await.len(), 2);
    rig.end().await;
}

/// A slice of this size is emptied in many steps, and its table does not shrink meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_slice_is_forgotten_as_well() {
    const FIELDS: usize = 300_000;
    let mut setup = Setup::default();
    setup.config.queue.dedupe_window = Duration::from_millis(200);
    let mut rig = setup.without_worker().await;
    let slice = rig.key("index:67:1");
    for fields in (0..FIELDS).collect::<Vec<_>>().chunks(1_000) {
        let pairs: Vec<(String, &str)> = fields.iter().map(|n| (format!("old-{n}"), "i5-0")).collect();
        rig.connection.hset_multiple::<_, _, _, ()>(&slice, &pairs).await.unwrap();
    }
    rig.connection.zadd::<_, _, _, ()>(rig.key("index"), "67:1", 134).await.unwrap();
    rig.start_worker();
    rig.eventually("the slice is gone", async |rig| {
        let left: (bool, Option<f64>) = (
            rig.connection.exists(rig.key("index:67:1")).await.unwrap(),
            rig.connection.zscore(rig.key("index"), "67:1").await.unwrap(),
        );
        left == (false, None)
    })
    .await;
    rig.end().await;
}
