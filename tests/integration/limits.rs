//! Limits: which jobs wait, which do not, and what a 429 closes.

use super::support::{Rig, Setup, account, check, create, in_time, limit, start, timing, with};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::time::Duration;
use xco_worker::{
    contract::JobType,
    sandbox::{Fault, FaultKind, Route, SandboxLimit},
};

fn ids(completions: &[Value]) -> Vec<&str> {
    completions.iter().filter_map(|event| event["id"].as_str()).collect()
}

/// The customers of one route's calls, in order of arrival.
fn keys_of(rig: &Rig, route: Route) -> Vec<String> {
    rig.sandbox.calls_of(route).into_iter().filter_map(|call| call.key).collect()
}

/// Microseconds between the calls of these routes.
fn gaps_us(rig: &Rig, routes: &[Route]) -> Vec<u64> {
    let at: Vec<u64> =
        rig.sandbox.calls().iter().filter(|call| routes.contains(&call.route)).map(|call| call.at_us).collect();
    at.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_over_its_limit_waits_in_order_and_delays_nobody() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    setup.config.limits.caller = Some(limit("4/s", 1));
    let mut rig = setup.start().await;
    for number in 0..6 {
        rig.enqueue(&check(&format!("a{number}"), "greedy")).await;
    }
    let other = rig.complete(check("b", "modest")).await;
    assert_eq!((timing(&other, "limited"), &other["status"]), (0, &json!("succeeded")), "{other:#}");
    assert!(ids(&rig.completions).len() <= 3, "with one slot, and five of six waiting: {:?}", ids(&rig.completions));
    rig.wait_for(7).await;
    let greedy: Vec<&str> = ids(&rig.completions).into_iter().filter(|id| id.starts_with('a')).collect();
    assert_eq!(greedy, ["a0", "a1", "a2", "a3", "a4", "a5"]);
    let last = rig.completion("a5").await;
    assert!(timing(&last, "limited") >= 900, "{last:#}");
    assert_eq!(last["attempts"], 1);
    let gaps = rig.gaps_us("greedy");
    // With a busy machine's jitter, only the first and the last call matter.
    assert!(gaps.iter().sum::<u64>() >= 1_100_000, "{gaps:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_crowd_is_known_is_put_aside_with_all_that_holds_for_others() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("4/s", 1));
    let mut rig = setup.start().await;
    rig.sandbox.seed_user(&account("otp@example.com"));
    for number in 0..3 {
        rig.enqueue(&check(&format!("c{number}"), "greedy")).await;
    }
    rig.eventually("the caller has no slot for a while", async |rig| {
        rig.connection.zcard::<_, usize>(rig.key("delayed")).await.unwrap() == 2
    })
    .await;
    for job in [
        check("c1", "greedy"),
        with(start("late", "greedy", "late@example.com"), "ttl_ms", 300),
        start("otp", "greedy", "otp@example.com"),
        check("c3", "greedy"),
        with(check("later", "greedy"), "run_at", in_time(Duration::from_millis(2_500))),
        check("c2", "greedy"),
        check("polite", "modest"),
    ] {
        rig.enqueue(&job).await;
    }
    let late = rig.completion("late").await;
    assert_eq!((&late["status"], &late["error"]["kind"]), (&json!("expired"), &json!("rate_limited")), "{late:#}");
    let polite = rig.completion("polite").await;
    assert_eq!((timing(&polite, "limited"), &polite["status"]), (0, &json!("succeeded")), "{polite:#}");
    rig.wait_for(8).await;
    let greedy: Vec<&str> = ids(&rig.completions).into_iter().filter(|id| !["late", "polite"].contains(id)).collect();
    assert_eq!(greedy, ["c0", "c1", "c2", "otp", "c3", "later"], "in order, and none twice");
    for event in rig.completions.iter().filter(|event| event["id"] != "late") {
        assert_eq!((&event["status"], &event["attempts"]), (&json!("succeeded"), &json!(1)), "{event:#}");
    }
    assert_eq!(rig.sandbox.calls_of(Route::Start).len(), 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_closes_its_caller_alone_for_retry_after() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    let mut rig = setup.start().await;
    let mut fault = Fault::status(429).retry_after("2");
    fault.caller_id = Some("busy".to_owned());
    rig.sandbox.order(fault);
    rig.enqueue(&with(check("a1", "busy"), "max_attempts", 1)).await;
    // A call that is running when the 429 arrives still completes; later ones are not made.
    rig.eventually("the 429 is known to all", async |rig| {
        let waiting: u64 = rig.connection.zcard(rig.key("delayed")).await.unwrap();
        waiting == 1
    })
    .await;
    rig.enqueue(&with(check("a2", "busy"), "max_attempts", 1)).await;
    let other = rig.complete(check("b", "free")).await;
    assert_eq!(timing(&other, "limited"), 0, "{other:#}");
    assert_eq!(ids(&rig.completions), ["b"]);
    rig.wait_for(3).await;
    for (id, attempts) in [("a1", 2), ("a2", 1)] {
        let event = rig.completion(id).await;
        assert_eq!((&event["status"], &event["attempts"]), (&json!("succeeded"), &json!(attempts)), "{event:#}");
        assert!(timing(&event, "limited") >= 1800, "{event:#}");
        assert_eq!(timing(&event, "retrying"), 0, "{event:#}");
    }
    assert!(rig.gaps_us("busy")[0] >= 1_980_000, "{:?}", rig.gaps_us("busy"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retry_after_the_delay_grows() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::new(FaultKind::Statuses(vec![429, 429])));
    let event = rig.complete(with(check("c", "ip"), "max_attempts", 1)).await;
    assert_eq!((&event["status"], &event["attempts"]), (&json!("succeeded"), &json!(3)), "{event:#}");
    let gaps = rig.gaps_us("ip");
    assert!(gaps[0] >= 100_000 && gaps[1] >= gaps[0] + gaps[0] / 2, "{gaps:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_limit_keeps_within_xcos() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("10/s", 3));
    setup.config.limits.client = Some(limit("10/s", 3));
    // A larger burst than the workers have: two calls' delays on a busy machine may differ by that much.
    let theirs = Some(SandboxLimit { per_second: 10.0, burst: 6 });
    (setup.sandbox.caller_limit, setup.sandbox.client_limit) = (theirs, theirs);
    let mut rig = setup.start().await;
    for number in 0..12 {
        for caller in ["a", "b", "c"] {
            rig.enqueue(&check(&format!("{caller}{number}"), caller)).await;
        }
        rig.enqueue(&create(&format!("u{number}"), &format!("u{number}@example.com"))).await;
    }
    rig.wait_for(48).await;
    let stats = rig.sandbox.stats();
    assert_eq!((stats.answered(Route::Exists, 429), stats.answered(Route::Create, 429)), (0, 0));
    assert!(rig.completions.iter().all(|event| event["attempts"] == 1));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_configured_limit_xcos_429s_are_enough() {
    let mut setup = Setup::default();
    setup.sandbox.caller_limit = Some(SandboxLimit { per_second: 4.0, burst: 2 });
    let mut rig = setup.start().await;
    for number in 0..8 {
        rig.enqueue(&with(check(&format!("a{number}"), "ip"), "max_attempts", 1)).await;
    }
    rig.wait_for(8).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded"));
    assert!(rig.sandbox.stats().answered(Route::Exists, 429) > 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_caller_spend_the_clients_bucket_and_no_others() {
    let mut setup = Setup::default();
    setup.config.limits.client = Some(limit("5/s", 1));
    let mut rig = setup.start().await;
    for number in 0..4 {
        let caller = format!("ip-{number}");
        let job = with(create(&format!("c{number}"), &format!("c{number}@example.com")), "caller_id", caller);
        rig.enqueue(&job).await;
    }
    let free = rig.complete(check("free", "ip-1")).await;
    assert_eq!(timing(&free, "limited"), 0, "{free:#}");
    rig.wait_for(5).await;
    let gaps = gaps_us(&rig, &[Route::Create]);
    assert!(gaps.len() == 3 && gaps.iter().sum::<u64>() >= 450_000, "{gaps:?}");

    // Its 429 closes its bucket for those calls, and for no others.
    rig.sandbox.order(Fault::status(429).on(Route::Create).retry_after("1"));
    rig.enqueue(&with(create("c9", "c9@example.com"), "caller_id", "ip-9")).await;
    rig.sandbox.wait_until(|stats| stats.answered(Route::Create, 429) == 1).await;
    let free = rig.complete(check("free2", "ip-9")).await;
    assert_eq!(timing(&free, "limited"), 0, "{free:#}");
    let closed = rig.completion("c9").await;
    assert_eq!((&closed["outcome"], &closed["attempts"]), (&json!("created"), &json!(2)), "{closed:#}");
    assert!(timing(&closed, "limited") >= 900, "{closed:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_may_have_a_limit_of_its_own() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("1000/s", 100));
    setup.config.limits.types.insert(JobType::StartOtp, limit("2/s", 1));
    let mut rig = setup.start().await;
    rig.sandbox.seed_user(&account("k@example.com"));
    rig.enqueue(&start("s1", "ip", "k@example.com")).await;
    rig.enqueue(&start("s2", "ip", "k@example.com")).await;
    for number in 0..10 {
        rig.enqueue(&check(&format!("c{number}"), "ip")).await;
    }
    rig.wait_for(12).await;
    assert_eq!(ids(&rig.completions).last(), Some(&"s2"));
    assert!(timing(&rig.completion("s2").await, "limited") >= 400);
    let checks = rig.completions.iter().filter(|event| event["type"] == "CheckUser");
    assert!(checks.into_iter().all(|event| timing(event, "limited") == 0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_total_limit_holds_for_all_calls_together() {
    let mut setup = Setup::default();
    setup.config.limits.total = Some(limit("10/s", 1));
    let mut rig = setup.start().await;
    for number in 0..4 {
        rig.enqueue(&check(&format!("c{number}"), &format!("ip-{number}"))).await;
        rig.enqueue(&create(&format!("u{number}"), &format!("u{number}@example.com"))).await;
    }
    rig.wait_for(8).await;
    let gaps = gaps_us(&rig, &[Route::Exists, Route::Create]);
    assert!(gaps.iter().sum::<u64>() >= 550_000, "{gaps:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_caller_is_allowed_where_configured_and_a_reference_serves_as_one() {
    let nobody = |id: &str| json!({"id": id, "type": "CheckUser", "args": {"email": "a@example.com"}});
    let mut rig = Setup::default().start().await;
    let rejected = rig.complete(nobody("n")).await;
    assert_eq!(rejected["error"]["kind"], "missing_caller_id");
    let done = rig.complete(with(nobody("r"), "customer_reference", "customer-5")).await;
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert!(done.get("caller_id").is_none(), "of the job, where it had one: {done:#}");
    assert_eq!(rig.sandbox.calls_of(Route::Exists)[0].caller_id.as_deref(), Some("customer-5"));
    rig.end().await;

    let mut setup = Setup::default();
    setup.config.limits.allow_missing_caller_id = true;
    setup.config.limits.client = Some(limit("3/s", 1));
    setup.config.limits.caller = Some(limit("1/h", 1));
    let mut rig = setup.start().await;
    for id in ["n1", "n2"] {
        rig.enqueue(&nobody(id)).await;
    }
    rig.enqueue(&create("c", "c@example.com")).await;
    rig.wait_for(3).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded"));
    let gaps = gaps_us(&rig, &[Route::Exists, Route::Create]);
    assert!(gaps.len() == 2 && gaps.iter().sum::<u64>() >= 500_000, "one bucket for both: {gaps:?}");
    assert!(rig.sandbox.calls_of(Route::Exists).iter().all(|call| call.caller_id.is_none()));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_order_is_kept_through_its_limit() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    setup.config.limits.caller = Some(limit("8/s", 1));
    let mut rig = setup.without_worker().await;
    // All are in the lane before the second reservation is due, so all but the first wait.
    let wanted: Vec<String> = (0..10).map(|number| format!("o{number:02}@example.com")).collect();
    for number in 0..10 {
        rig.enqueue(&check(&format!("o{number:02}"), "ip")).await;
    }
    rig.start_worker();
    rig.wait_for(10).await;
    assert_eq!(keys_of(&rig, Route::Exists), wanted);
    rig.end().await;
}

/// A caller is backlogged, then not, then again. Its jobs take different paths into Redis, and none overtakes another.
#[tokio::test(flavor = "multi_thread")]
async fn a_callers_order_is_kept_while_its_crowd_comes_and_goes() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    setup.config.limits.caller = Some(limit("10/s", 1));
    let mut rig = setup.start().await;
    let mut wanted = Vec::new();
    for (count, pause_ms) in [(1, 150), (6, 250), (2, 20), (1, 0), (8, 1_500), (3, 5), (5, 40), (7, 0)] {
        for _ in 0..count {
            let id = format!("w{:02}", wanted.len());
            rig.enqueue(&check(&id, "ip")).await;
            wanted.push(format!("{id}@example.com"));
        }
        // A schedule, not a wait for an event.
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    rig.wait_for(wanted.len()).await;
    assert_eq!(keys_of(&rig, Route::Exists), wanted);
    rig.end().await;
}

/// Their reservations have all passed. Used at once, they would exceed the limit many times.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_waited_while_no_worker_ran_do_not_all_come_at_once() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("5/s", 10));
    // A little above the workers' limit, so that the machine's jitter does not look like too many calls.
    setup.sandbox.caller_limit = Some(SandboxLimit { per_second: 5.0, burst: 15 });
    let mut rig = setup.start().await;
    for number in 0..30 {
        rig.enqueue(&check(&format!("a{number}"), "greedy")).await;
    }
    rig.wait_for(10).await;
    rig.eventually("the rest is parked", async |rig| {
        let waiting: usize = rig.connection.zcard(rig.key("delayed")).await.unwrap();
        waiting + rig.completions.len() >= 30
    })
    .await;
    rig.stop_workers().await;
    rig.drain().await;
    let parked: Vec<(String, f64)> = rig.connection.zrange_withscores(rig.key("delayed"), 0, -1).await.unwrap();
    assert!(parked.len() >= 16, "too few to be too many: {}", parked.len());
    let last_due_ms = parked.last().map_or(0.0, |(_, due_ms)| *due_ms);
    rig.eventually("a second after the last one's time", async |_| {
        #[allow(clippy::cast_precision_loss)]
        let now_ms = jiff::Timestamp::now().as_millisecond() as f64;
        now_ms > last_due_ms + 1_000.0
    })
    .await;
    rig.start_worker();
    rig.wait_for(30).await;
    assert_eq!(rig.sandbox.stats().answered(Route::Exists, 429), 0);
    for event in &rig.completions {
        assert_eq!((&event["status"], &event["attempts"]), (&json!("succeeded"), &json!(1)), "{event:#}");
    }
    rig.end().await;
}
