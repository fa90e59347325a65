//! Wrong content in keys that scripts write to, from producers or others: one bad key affects at most one job.

use super::{
    kills::own_redis,
    ledger::all_complete,
    support::{Rig, Setup, check, in_time},
};
use redis::{AsyncCommands, cmd};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use xco_worker::{
    contract::JobType,
    queue::{Connector, Keys, rules},
    rules::{Rule, RuleAction, RuleOrigin, Selector},
    sandbox::Route,
};

pub(crate) fn ids(prefix: &str, n: usize) -> BTreeSet<String> {
    (0..n).map(|n| format!("{prefix}{n}")).collect()
}

/// Adds jobs in one step, so that a worker reads them together.
pub(crate) async fn enqueue_together(rig: &mut Rig, jobs: &[serde_json::Value]) {
    let lane = rig.key("jobs:interactive");
    let mut step = redis::pipe();
    step.atomic();
    for job in jobs {
        step.cmd("XADD").arg(&lane).arg("*").arg("job").arg(job.to_string());
    }
    let _: Vec<String> = step.query_async(&mut rig.connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_body_that_is_none_of_ours_keeps_no_job_from_coming_back() {
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.start().await;
    for n in 0..5 {
        let mut job = check(&format!("d{n}"), "192.0.2.1");
        job["run_at"] = json!(in_time(Duration::from_millis(1500)));
        rig.enqueue(&job).await;
    }
    let (delayed, bodies) = (rig.key("delayed"), rig.key("delayed:jobs"));
    // A body without a newline, and a due time without a body.
    let () = rig.connection.hset(&bodies, "o", "nonewline").await.unwrap();
    let () = rig.connection.zadd(&delayed, "o", 0).await.unwrap();
    let () = rig.connection.zadd(&delayed, "alone", 0).await.unwrap();
    all_complete(&mut rig, &ids("d", 5), 20).await;
    rig.follow(20, |events| events.iter().any(|event| event["status"] == "rejected")).await;
    assert_eq!(rig.letters().await.len(), 1);
    rig.end().await;
}

#[rstest::rstest]
#[case::without_a_newline(Some("nonewline"), "0")]
#[case::empty(Some(""), "0")]
#[case::without_a_state(Some("\n{\"type\":\"CheckUser\"}"), "0")]
#[case::with_a_state_that_is_none(Some("{\"o\":1\n{\"type\":\"CheckUser\"}"), "0")]
#[case::with_a_newline_alone(Some("\n"), "0")]
#[case::before_all_time(Some("{}\n{}"), "-inf")]
#[case::without_a_body(None, "0")]
#[case::without_a_body_before_all_time(None, "-inf")]
#[case::never_due(None, "+inf")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_hand_delayed_keeps_no_job_from_coming_back(#[case] body: Option<&str>, #[case] due: &str) {
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.start().await;
    for n in 0..5 {
        let mut job = check(&format!("d{n}"), "192.0.2.1");
        job["run_at"] = json!(in_time(Duration::from_millis(1200)));
        rig.enqueue(&job).await;
    }
    let (delayed, bodies) = (rig.key("delayed"), rig.key("delayed:jobs"));
    for member in ["o", "interactive:0:1-0", "interactive:0:99999999999999999999-0"] {
        if let Some(body) = body {
            let () = rig.connection.hset(&bodies, member, body).await.unwrap();
        }
        let _: u64 = cmd("ZADD").arg(&delayed).arg(due).arg(member).query_async(&mut rig.connection).await.unwrap();
    }
    all_complete(&mut rig, &ids("d", 5), 20).await;
    if body.is_some() {
        rig.follow(20, |events| events.iter().filter(|event| event["status"] == "rejected").count() == 3).await;
    }
    if due == "+inf" {
        let _: u64 = rig.connection.del(&delayed).await.unwrap();
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_a_producer_made_up_are_ignored() {
    let mut rig = Setup { redis: own_redis(), ..Setup::default() }.start().await;
    let lane = rig.key("jobs:interactive");
    let large = "a".repeat(5_000_000);
    // The state of a job that an operator cancelled after 99 calls, one of them in doubt.
    let state = r#"{"e":true,"o":"interactive:0:1-0","a":99,"f":99,"d":true,"g":3}"#;
    let cases = [
        ("parent", large.as_str()),
        ("parent", "with space"),
        ("parent", ""),
        ("parent", "\u{202e}"),
        ("generation", "many"),
        ("generation", "-1"),
        ("generation", "255"),
        ("generation", "99999999999999999999"),
        ("generation", &large),
        ("state", state),
        ("state", "{"),
        ("state", &large),
        ("", ""),
        ("what", &large),
    ];
    for (n, (field, value)) in cases.into_iter().enumerate() {
        let job = check(&format!("j{n}"), "192.0.2.1").to_string();
        let mut add = cmd("XADD");
        add.arg(&lane).arg("*").arg("job").arg(job).arg(field).arg(value);
        let _: String = add.query_async(&mut rig.connection).await.unwrap();
    }
    all_complete(&mut rig, &ids("j", cases.len()), 20).await;
    for event in &rig.completions {
        assert_eq!(event["status"], "succeeded", "{event:#}");
        assert!(event.to_string().len() < 4096);
        assert!(event.get("parent_id").is_none_or(serde_json::Value::is_null), "{event:#}");
        assert_eq!(event["attempts"], 1, "{event:#}");
    }
    rig.end().await;
}

/// Waits until the jobs `j0`, `j1` and so on have completed, and asserts that they were called in this order.
async fn complete_in_order(mut rig: Rig, n: usize) {
    all_complete(&mut rig, &ids("j", n), 60).await;
    let calls = rig.sandbox.calls_of(Route::Exists);
    let order: Vec<_> = calls.iter().map(|call| call.key.clone().unwrap_or_default()).collect();
    let wanted: Vec<_> = (0..n).map(|n| format!("j{n}@example.com")).collect();
    assert_eq!(order, wanted);
    rig.end().await;
}

#[rstest::rstest]
#[case::few(60)]
#[case::more_than_come_back_at_once(1200)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_due_at_the_same_time_come_back_in_the_order_of_the_lane(#[case] n: usize) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.config.worker.concurrency = 1;
    let mut rig = setup.start().await;
    // All of them must be delayed before their time comes.
    let run_at = in_time(Duration::from_millis(if n > 100 { 9_000 } else { 2_500 }));
    let jobs: Vec<_> = (0..n)
        .map(|n| {
            let mut job = check(&format!("j{n}"), &format!("c{n}"));
            job["run_at"] = json!(run_at);
            job
        })
        .collect();
    enqueue_together(&mut rig, &jobs).await;
    complete_in_order(rig, n).await;
}

#[rstest::rstest]
#[case::few(60)]
#[case::more_than_are_called_up_at_once(1200)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_were_paused_come_back_in_the_order_of_the_lane(#[case] n: usize) {
    let mut setup = Setup { redis: own_redis(), ..Setup::default() };
    setup.config.worker.concurrency = 1;
    let mut rig = setup.without_worker().await;
    let mut link = Connector::new(&rig.redis_as("operator")).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    let selector = Selector { job_type: Some(JobType::CheckUser), ..Selector::default() };
    let order = RuleOrigin { who: "ada".to_owned(), from: "here".to_owned(), at_ms: 1, until_ms: None, reason: None };
    let rule = Rule { verb: RuleAction::Pause, selector, order };
    assert!(rules::set_rule(&mut link, &keys, &rule).await.unwrap());
    rig.start_worker();
    let jobs: Vec<_> = (0..n).map(|n| check(&format!("j{n}"), &format!("c{n}"))).collect();
    enqueue_together(&mut rig, &jobs).await;
    rig.eventually("all are paused", async |rig: &mut Rig| {
        rig.connection.zcard::<_, usize>(rig.key("delayed")).await.unwrap() == n
    })
    .await;
    let name = Rule::name(rule.verb, &rule.selector);
    assert!(rules::drop_rule(&mut link, &keys, &name, None).await.unwrap());
    complete_in_order(rig, n).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_of_the_index_of_another_type_reserves_nothing_and_is_replaced() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("before", "192.0.2.3")).await;
    let (seconds, _): (u64, u64) = cmd("TIME").query_async(&mut rig.connection).await.unwrap();
    let index = rig.key("index");
    // The default window is an hour.
    let width_s = 1200;
    for number in [seconds / width_s - 1, seconds / width_s, seconds / width_s + 1] {
        let slice = format!("{index}:{}:{number}", width_s * 1000);
        let mut spoil = redis::pipe();
        spoil.cmd("DEL").arg(&slice).cmd("RPUSH").arg(&slice).arg("x").cmd("EXPIRE").arg(&slice).arg(600);
        let _: (u64, u64, bool) = spoil.query_async(&mut rig.connection).await.unwrap();
    }
    for id in ["listed", "hashed"] {
        rig.enqueue(&check(id, "192.0.2.1")).await;
    }
    rig.enqueue(&check("neighbour", "192.0.2.2")).await;
    rig.wait_for(4).await;
    // It is reserved from now on.
    rig.enqueue(&check("listed", "192.0.2.1")).await;
    rig.complete(check("after", "192.0.2.2")).await;
    assert_eq!(rig.completions.len(), 5, "{:#?}", rig.completions);
    rig.end().await;
}
