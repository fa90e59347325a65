//! Limits and concurrency that operators change while workers run.

use super::{
    commands::Console,
    support::{RedisServer, Rig, Setup, check, create, limit, with},
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::time::Duration;
use xco_worker::{
    config::Config,
    contract::{Lane, Partitions},
    operations::{
        Actor, Backend, batches,
        callers::{self, CallerListRequest, CallerState},
        limits::{self, LimitChange, LimitError, LimitName, LimitSetting, ResetRequest, SetRequest},
    },
    sandbox::{Fault, Latency, Route},
};

fn ada() -> Actor {
    Actor::new("ada (ops)", "192.0.2.1")
}

fn named<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == name).unwrap()
}

/// The times of arrival of all calls about customers at the sandbox, in microseconds, in order.
fn arrivals(rig: &Rig) -> Vec<u64> {
    rig.sandbox.calls().iter().filter(|call| call.key.is_some()).map(|call| call.at_us).collect()
}

/// Waits for `more` calls after those that there are. Returns the times of arrival of these alone.
async fn next_calls(rig: &mut Rig, more: usize) -> Vec<u64> {
    let before = arrivals(rig).len();
    rig.eventually("more calls", async |rig: &mut Rig| arrivals(rig).len() >= before + more).await;
    arrivals(rig)[before..before + more].to_vec()
}

fn span_us(calls: &[u64]) -> u64 {
    calls.last().unwrap() - calls[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_a_limit_that_an_operator_changes() {
    let mut setup = Setup::default();
    setup.config.limits.total = Some(limit("50/s", 1));
    let mut rig = setup.start().await;
    rig.start_worker();
    let console = Console::new();
    let count = 400;
    for number in 0..count {
        rig.enqueue(&check(&format!("j{number}"), &format!("caller-{number}"))).await;
    }
    next_calls(&mut rig, 10).await;

    // Lower: from then on no call comes earlier. Calls that were admitted before the command returned are let pass.
    console
        .command(&rig, &["limits", "set", "total.rate", "10/s", "--reason", "XCO asked"])
        .assert()
        .code(0)
        .stdout(contains("total         10/s, burst 1").and(contains("XCO asked (file: 50/s, burst 1)")))
        .stderr(contains("in force on 2 of 2 workers"));
    let calls = next_calls(&mut rig, 8).await;
    assert!(span_us(&calls[2..]) >= 450_000, "five intervals of 100 ms: {calls:?}");
    let report = console.report(&rig, &["limits", "list"]);
    let total = named(&report, "total");
    assert_eq!((&total["rate"], &total["burst"], &total["from"]), (&json!("10/s"), &json!(1), &json!("ada")));
    assert_eq!((&total["reason"], &total["file"]), (&json!("XCO asked"), &json!({"rate": "50/s", "burst": 1})));
    assert!(total["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{total:#}");
    assert_eq!(named(&report, "caller"), &json!({"name": "caller", "rate": null, "burst": null, "from": "file"}));
    assert_eq!((&report["in_force_on"], &report["workers"]), (&json!(2), &json!(2)));

    // Higher: the jobs that wait have reservations at the former rate, for half a minute.
    let changed = console.report(&rig, &["limits", "set", "total.rate", "200/s", "total.burst", "20"]);
    assert!(changed["brought_forward"].as_u64().unwrap() > 50, "{changed:#}");
    assert_eq!(changed["changed"], 2);
    let calls = next_calls(&mut rig, 100).await;
    assert!(span_us(&calls) <= 5_000_000, "at 10/s this takes ten seconds: {}", span_us(&calls));

    // Off: no limit at all, whatever the file says.
    let changed = console.report(&rig, &["limits", "set", "total.rate", "off"]);
    assert_eq!(named(&changed, "total")["rate"], Value::Null);
    rig.wait_for(count).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded" && event["attempts"] == 1));

    let status = console.report(&rig, &["status", "--every", "200ms"]);
    let names: Vec<_> = status["overrides"].as_array().unwrap().iter().map(|set| &set["name"]).collect();
    assert_eq!(names, ["total.rate", "total.burst"]);
    console
        .command(&rig, &["doctor"])
        .assert()
        .stdout(contains("changed while workers run: total.rate is off, by ada; total.burst is 20, by ada"));
    let reset = console.report(&rig, &["limits", "reset", "--all"]);
    let file = json!({"name": "total", "rate": "50/s", "burst": 1, "from": "file"});
    assert_eq!((named(&reset, "total"), &reset["changed"]), (&file, &json!(2)));
    let actions = console.done(&rig, &["audit"]);
    let actions: Vec<_> = actions.iter().filter(|action| action["who"] == "ada").collect();
    assert_eq!(actions.len(), 4, "{actions:#?}");
    let what = json!({"limits": {"total.rate": "10/s"}, "reason": "XCO asked"});
    assert_eq!((&actions[0]["action"], &actions[0]["what"]), (&json!("limits set"), &what));
    assert_eq!(actions[3]["action"], "limits reset");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_caller_follows_a_higher_rate_in_order() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("1/s", 1));
    let mut rig = setup.start().await;
    let console = Console::new();
    for number in 0..60 {
        rig.enqueue(&check(&format!("j{number:02}"), "greedy")).await;
    }
    rig.eventually("they wait", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() >= 50
    })
    .await;
    let changed = console.report(&rig, &["limits", "set", "caller.rate", "100/s"]);
    assert!(changed["brought_forward"].as_u64().unwrap() >= 40, "{changed:#}");
    // A job that comes now goes behind them, and not behind the reservations of a minute.
    rig.enqueue(&check("last", "greedy")).await;
    rig.follow(20, |events| events.len() == 61).await;
    assert_eq!(rig.completions.len(), 61, "at 1/s this takes a minute");
    let gaps = rig.gaps_us("greedy");
    let after = &gaps[gaps.len() - 40..];
    assert!(after.iter().sum::<u64>() >= 39 * 9_000, "no faster than 100/s: {after:?}");
    console.report(&rig, &["limits", "reset", "caller.rate"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_jobs_that_wait_for_a_shared_limit_follow_it() {
    let mut setup = Setup::default();
    setup.config.limits.client = Some(limit("2/s", 2));
    let mut rig = setup.start().await;
    let console = Console::new();
    let jobs = (0..60).map(|n| create(&format!("b{n:02}"), &format!("b{n}@example.com")));
    rig.enqueue_all(Lane::Bulk, jobs).await;
    next_calls(&mut rig, 3).await;
    console.report(&rig, &["limits", "set", "client.rate", "200/s"]);
    rig.follow(20, |events| events.len() == 60).await;
    assert_eq!(rig.completions.len(), 60, "at 2/s this takes half a minute");
    console.report(&rig, &["limits", "reset", "client.rate"]);
    rig.end().await;
}

/// Maximum number of calls that were at the sandbox at once, of those that arrived from `from` on, with this latency.
fn most_at_once(rig: &Rig, from: usize, latency_us: u64) -> usize {
    let calls = &arrivals(rig)[from..];
    let others = |at: u64| calls.iter().filter(|other| **other <= at && at < **other + latency_us).count();
    calls.iter().map(|at| others(*at)).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_changes_without_a_restart() {
    const LATENCY: Duration = Duration::from_millis(200);
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 2;
    setup.config.worker.adaptive = false;
    setup.sandbox.latency = Latency { min: LATENCY, max: LATENCY };
    let mut rig = setup.start().await;
    let console = Console::new();
    for number in 0..150 {
        rig.enqueue(&check(&format!("j{number}"), &format!("caller-{number}"))).await;
    }
    next_calls(&mut rig, 4).await;
    // A little less than the latency: the answer is on its way while the next call is.
    let at_once = |rig: &Rig, from| most_at_once(rig, from, 190_000);
    assert_eq!(at_once(&rig, 0), 2, "{:?}", arrivals(&rig));
    let changed = console.report(&rig, &["limits", "set", "concurrency", "16"]);
    let concurrency = &changed["concurrency"];
    assert_eq!(
        (&concurrency["value"], &concurrency["from"], &concurrency["file"]),
        (&json!(16), &json!("ada"), &json!(2))
    );
    let from = arrivals(&rig).len();
    next_calls(&mut rig, 48).await;
    let most = at_once(&rig, from);
    assert!((9..=16).contains(&most), "{most} at once");
    let status = console.report(&rig, &["status", "--every", "200ms"]);
    assert_eq!((&status["workers"][0]["slots"], &status["workers"][0]["configured_slots"]), (&json!(16), &json!(2)));

    console.report(&rig, &["limits", "set", "concurrency", "1"]);
    // Calls in flight go on.
    let from = arrivals(&rig).len();
    next_calls(&mut rig, 6).await;
    let most = at_once(&rig, from + 1);
    assert_eq!(most, 1);
    console.report(&rig, &["limits", "reset", "concurrency"]);
    rig.wait_for(150).await;
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded" && event["attempts"] == 1));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_survives_restarts_of_workers_and_of_redis() {
    let mut setup = Setup { redis: RedisServer::own(&["--appendonly", "yes"]), ..Setup::default() };
    setup.config.limits.total = Some(limit("1000/s", 1000));
    let mut rig = setup.start().await;
    let console = Console::new();
    console.report(&rig, &["limits", "set", "total.rate", "10/s", "total.burst", "1", "concurrency", "3"]);
    rig.stop_workers().await;
    rig.redis.kill();
    rig.redis.restart();
    let server = std::mem::replace(&mut rig.redis, RedisServer::own(&[]));
    rig.move_to(server).await;
    rig.start_worker();
    for number in 0..10 {
        rig.enqueue(&check(&format!("j{number}"), &format!("caller-{number}"))).await;
    }
    // A worker knows them before its first call.
    rig.wait_for(10).await;
    let calls = arrivals(&rig);
    assert!(span_us(&calls) >= 850_000, "nine intervals of 100 ms: {calls:?}");
    let report = console.report(&rig, &["limits", "list"]);
    assert_eq!((&named(&report, "total")["rate"], &report["concurrency"]["value"]), (&json!("10/s"), &json!(3)));
    assert_eq!(report["in_force_on"], 1);
    let reset = console.report(&rig, &["limits", "reset", "total.rate", "total.burst", "concurrency"]);
    assert_eq!(reset["changed"], 3);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_limit_in_redis_is_ignored() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("100/s", 7));
    let mut rig = setup.without_worker().await;
    let (key, console) = (rig.key("limits"), Console::new());
    let long = "9".repeat(100_000);
    for (field, value) in
        [("caller.rate", &b"\xff\x00{"[..]), ("concurrency", long.as_bytes()), ("v", b"1.1"), ("x", b"y")]
    {
        rig.connection.hset::<_, _, _, ()>(&key, field, value).await.unwrap();
    }
    rig.start_worker();
    assert_eq!(rig.complete(check("a", "c")).await["status"], "succeeded");
    let report = console.report(&rig, &["limits", "list"]);
    assert_eq!(report["ignored"], json!(["caller.rate", "concurrency"]));
    let file = json!({"name": "caller", "rate": "100/s", "burst": 7, "from": "file"});
    assert_eq!((named(&report, "caller"), &report["in_force_on"]), (&file, &json!(1)));
    console.command(&rig, &["doctor"]).assert().stdout(contains("caller.rate, concurrency; it is ignored"));
    // A good value replaces a bad one.
    let changed = console.report(&rig, &["limits", "set", "caller.rate", "50/s"]);
    assert_eq!((&named(&changed, "caller")["rate"], &changed["ignored"]), (&json!("50/s"), &json!(["concurrency"])));

    rig.connection.del::<_, ()>(&key).await.unwrap();
    rig.connection.set::<_, _, ()>(&key, "text").await.unwrap();
    assert_eq!(rig.complete(check("b", "c")).await["status"], "succeeded");
    rig.start_worker();
    rig.eventually("the file's limits are in force again", async |rig: &mut Rig| {
        let report = console.report(rig, &["limits", "list"]);
        named(&report, "caller") == &file && report["in_force_on"] == 2
    })
    .await;
    console
        .command(&rig, &["limits", "set", "caller.rate", "50/s"])
        .assert()
        .code(1)
        .stderr(contains("WRONGTYPE").or(contains("type")));
    rig.connection.del::<_, ()>(&key).await.unwrap();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_or_value_names_what_is_right() {
    let mut rig = Setup::default().start().await;
    assert_eq!(rig.complete(check("a", "c")).await["status"], "succeeded");
    let console = Console::new();
    for (args, said) in [
        (&["set", "caller.rat", "5/s"][..], "did you mean caller.rate?"),
        (&["set", "speed", "5/s"], "the limits are caller.rate, caller.burst"),
        (&["set", "caller.rate", "fast"], "10/s, 3/m, 100/h, or off"),
        (&["set", "total.rate", "0/s"], "at least 1"),
        (&["set", "concurrency", "5000"], "from 1 to 4096"),
        (&["set", "caller.burst", "5"], "set caller.rate first"),
        (&["set", "caller.rate", "5/s", "caller.burst"], "limits set NAME VALUE"),
        (&["set", "caller.rate", "5/s", "--reason", &"x".repeat(201)], "200 characters"),
        (&["reset", "caller.rates"], "did you mean caller.rate?"),
    ] {
        let args: Vec<_> = ["limits"].iter().chain(args).copied().collect();
        console.command(&rig, &args).assert().code(2).stderr(contains(said));
    }
    console.command(&rig, &["limits", "reset", "caller.rate"]).assert().code(0).stderr(contains("nothing was changed"));
    console
        .command(&rig, &["limits", "list"])
        .assert()
        .code(0)
        .stdout(contains("caller        no limit"))
        .stderr(contains("in force on 1 of 1 worker"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sets_a_limit_and_is_told_who_has_it_in_force() {
    let setup = Setup::default();
    let mut rig = setup.without_worker().await;
    let (config, redis) = (Config::default(), rig.redis_as("operator"));
    let mut backend = Backend::connect(&redis).await.unwrap();
    let change = |name, value| LimitChange::parse(name, value).unwrap();
    let request = SetRequest { changes: vec![change("client.burst", "5")], reason: None };
    let refused = limits::set(&mut backend, &config, &ada(), &request).await.unwrap_err();
    assert!(matches!(refused, LimitError::BurstWithoutRate(LimitName::Client)), "{refused}");
    let request = SetRequest {
        changes: vec![change("client.rate", "30/m"), change("client.burst", "5")],
        reason: Some("less".to_owned()),
    };
    let changed = limits::set(&mut backend, &config, &ada(), &request).await.unwrap();
    assert_eq!((changed.changed, changed.report.in_force.workers), (2, 0));
    let client = json!(changed.report.limit(LimitName::Client));
    assert_eq!((&client["rate"], &client["burst"], &client["from"]), (&json!("30/m"), &json!(5), &json!("ada (ops)")));
    assert_eq!(client["file"], json!({"rate": null, "burst": null}));
    rig.start_worker();
    assert_eq!(rig.complete(check("a", "c")).await["status"], "succeeded");
    let reset = ResetRequest { settings: LimitSetting::ALL.to_vec(), reason: None };
    let after = limits::reset(&mut backend, &config, &ada(), &reset).await.unwrap();
    assert_eq!((after.changed, json!(after.report)["in_force_on"].clone()), (2, json!(1)));
    let key = rig.key("limits");
    assert!(!rig.connection.exists::<_, bool>(key).await.unwrap());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_listed_by_what_holds_them() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("1/h", 1));
    let mut rig = setup.start().await;
    let (config, redis) = (rig.config.clone(), rig.redis_as("operator"));
    let mut backend = Backend::connect(&redis).await.unwrap();
    let mut fault = Fault::status(429).retry_after("3600");
    fault.caller_id = Some("closed".to_owned());
    rig.sandbox.order(fault);
    rig.enqueue(&with(check("c1", "closed"), "ttl_ms", 3_000)).await;
    // It ends at once: its limit opens after its deadline.
    assert_eq!(rig.completion("c1").await["error"]["kind"], "rate_limited");
    for number in 0..4 {
        rig.enqueue(&with(check(&format!("g{number}"), "greedy"), "ttl_ms", 72_000_000)).await;
    }
    rig.enqueue(&with(check("d1", "few"), "ttl_ms", 72_000_000)).await;
    rig.enqueue(&with(check("d2", "few"), "ttl_ms", 72_000_000)).await;
    rig.eventually("they wait", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 4
    })
    .await;
    let request = |state, limit, cursor| CallerListRequest { state, limit, cursor };
    let closed = callers::list(&mut backend, &config, request(CallerState::Closed, 10, None)).await.unwrap();
    let shown = json!(closed);
    assert_eq!((&shown["callers"][0]["caller"], &shown["complete"]), (&json!("closed"), &json!(true)), "{shown:#}");
    assert!(shown["callers"][0]["closed_until"].is_string() && closed.callers.len() == 1, "{shown:#}");
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let page = callers::list(&mut backend, &config, request(CallerState::Delayed, 1, cursor)).await.unwrap();
        assert!(page.callers.len() <= 1 && page.exact);
        found.extend(page.callers.into_iter().map(|caller| (caller.caller, caller.delayed.unwrap_or(0))));
        cursor = page.cursor;
        if page.complete {
            break;
        }
    }
    found.sort();
    assert_eq!(found, [("few".to_owned(), 1), ("greedy".to_owned(), 3)]);

    let one = json!(callers::one(&mut backend, &config, "greedy").await.unwrap());
    assert_eq!((&one["delayed"], &one["in_flight"], &one["paused"]), (&json!(3), &json!(0), &Value::Null), "{one:#}");
    assert_eq!((&one["configured"], &one["exact"]), (&json!({"rate": "1/h", "burst": 1}), &json!(true)));
    let one = json!(callers::one(&mut backend, &config, "closed").await.unwrap());
    assert!(one["closed_until"].is_string() && one["learned"]["last_429_at"].is_string(), "{one:#}");
    let unknown = json!(callers::one(&mut backend, &config, "nobody").await.unwrap());
    assert_eq!((&unknown["learned"], &unknown["delayed"]), (&Value::Null, &json!(0)));

    let console = Console::new();
    let changed = console.report(&rig, &["limits", "set", "caller.rate", "off"]);
    assert_eq!(changed["brought_forward"], 4);
    rig.wait_for(7).await;
    console.report(&rig, &["limits", "reset", "--all"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_counted() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.start().await;
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    for number in 0..6 {
        rig.enqueue(&with(check(&format!("j{number}"), &format!("caller-{number}")), "batch", "spring")).await;
    }
    rig.enqueue(&with(create("broken", "x@example.com"), "batch", "autumn")).await;
    rig.sandbox.order(Fault { route: Some(Route::Create), ..Fault::status(400) });
    rig.wait_for(7).await;
    let spring = json!(batches::one(&mut backend, "spring").await.unwrap());
    let wanted = json!({
        "batch": "spring", "enqueued": null, "accepted": 6, "ended": 6, "outcomes": {"succeeded": 6}, "cancelled": null
    });
    assert_eq!(spring, wanted);
    assert_eq!(batches::one(&mut backend, "nothing").await.unwrap(), None);
    let mut names = Vec::new();
    let mut cursor = None;
    loop {
        let page = batches::list(&mut backend, 1, cursor.as_ref()).await.unwrap();
        names.extend(page.batches.into_iter().map(|batch| batch.batch));
        cursor = page.cursor;
        if page.complete {
            break;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names, ["autumn", "spring"]);
    rig.end().await;
}
