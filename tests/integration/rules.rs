//! Operators' rules: pauses and cancellations on every worker, and how they are shown.

use super::{
    commands::Console,
    support::{Rig, Setup, account, check, consent, create, in_time, limit, start, verify, with},
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use xco_worker::{
    contract::Partitions,
    queue::{Connector, rules},
    sandbox::{Fault, Route},
};

fn status_of<'a>(rig: &'a Rig, id: &str) -> Option<&'a str> {
    rig.completions.iter().find(|event| event["id"] == id).and_then(|event| event["status"].as_str())
}

async fn batch(rig: &mut Rig, name: &str) -> BTreeMap<String, u64> {
    let key = rig.key(&format!("batch:{name}"));
    rig.connection.hgetall(key).await.unwrap()
}

/// Waits until no rule delays any job.
async fn nothing_held(rig: &mut Rig) {
    rig.eventually("nothing is held", async |rig: &mut Rig| {
        let key = rig.key("held");
        !rig.connection.exists::<_, bool>(key).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_waits_on_every_worker_and_goes_on_once() {
    let mut rig = Setup::default().start().await;
    rig.start_worker();
    let console = Console::new();
    rig.sandbox.seed_user(&account("k@example.com"));
    console.done(&rig, &["pause", "--lane", "bulk"]);
    console.done(&rig, &["pause", "--type", "CheckUser"]);
    console
        .command(&rig, &["pause", "--caller", "held"])
        .assert()
        .code(0)
        .stderr(contains("in force on 2 of 2 workers"));
    for n in 0..20 {
        rig.enqueue_text("bulk", &create(&format!("b{n:02}"), &format!("b{n}@example.com")).to_string()).await;
        rig.enqueue(&check(&format!("c{n:02}"), &format!("198.51.100.{n}"))).await;
        rig.enqueue(&start(&format!("h{n:02}"), "held", "k@example.com")).await;
        rig.enqueue(&start(&format!("f{n:02}"), "free", "k@example.com")).await;
    }
    // A deadline continues while its job is delayed.
    rig.enqueue(&with(check("late", "198.51.100.99"), "ttl_ms", 300)).await;
    rig.follow(20, |events| events.len() >= 21).await;
    assert_eq!(status_of(&rig, "late"), Some("expired"));
    assert!(rig.completions.iter().all(|event| event["id"] == "late" || event["caller_id"] == "free"));
    rig.eventually("all are parked", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 40
    })
    .await;

    // Pauses are durable: a worker that starts knows them before its first job.
    rig.stop_workers().await;
    rig.start_worker();
    rig.start_worker();
    rig.enqueue(&check("c99", "198.51.100.100")).await;
    rig.enqueue(&start("f99", "free", "k@example.com")).await;
    rig.completion("f99").await;
    let why = console.why(&rig, "c07");
    assert_eq!((&why["place"], &why["waits_for"], &why["until"]), (&json!("parked"), &json!("paused"), &Value::Null));
    assert!(why["because"].as_str().unwrap().contains("by ada"), "{why:#}");
    let why = console.why(&rig, "b07");
    assert_eq!((&why["place"], &why["ahead"], &why["holds"]), (&json!("waiting"), &json!(7), &json!(["lane_paused"])));
    let status = console.status(&rig);
    assert_eq!(status["lanes"]["bulk"]["waiting"], 20, "{status:#}");
    assert_eq!(status["lanes"]["bulk"]["paused"], true);
    assert_eq!(status["delayed"]["by_reason"]["paused"], 41);
    assert_eq!(status["orders"].as_array().unwrap().len(), 3);
    assert_eq!(rig.completions.len(), 22);

    let asked = Instant::now();
    console.done(&rig, &["resume", "--type", "CheckUser"]);
    rig.follow(20, |events| events.len() >= 43).await;
    assert!(asked.elapsed() < Duration::from_secs(10));
    console.done(&rig, &["resume", "--all"]);
    rig.wait_for(83).await;
    let statuses: Vec<_> = rig.completions.iter().filter(|event| event["status"] != "succeeded").collect();
    assert_eq!(statuses.len(), 1, "{statuses:#?}");
    assert!(rig.completions.iter().all(|event| event["id"] == "late" || event["attempts"] == 1));
    console.command(&rig, &["resume", "--lane", "bulk"]).assert().code(1).stderr(contains("is not paused"));
    nothing_held(&mut rig).await;
    let control = rig.key("control");
    assert!(!rig.connection.exists::<_, bool>(control).await.unwrap(), "no order, no key");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_everything_ends_by_itself_when_it_was_to() {
    let mut rig = Setup::default().start().await;
    let console = Console::new();
    console.done(&rig, &["pause", "--all", "--for", "4s", "--reason", "XCO asked"]);
    console.done(&rig, &["pause", "--type", "StartOtp", "--for", "5s"]);
    rig.sandbox.seed_user(&account("k@example.com"));
    let enqueued = Instant::now();
    for n in 0..10 {
        rig.enqueue(&check(&format!("j{n}"), &format!("c{n}"))).await;
    }
    rig.enqueue(&start("s", "c", "k@example.com")).await;
    console.command(&rig, &["status"]).assert().code(0).stdout(contains("everything").and(contains(": XCO asked")));
    rig.wait_for(11).await;
    assert!(enqueued.elapsed() > Duration::from_secs(1), "they waited");
    assert!(rig.completions.iter().all(|event| event["status"] == "succeeded"));
    nothing_held(&mut rig).await;
    rig.eventually("the rules are gone", async |rig: &mut Rig| {
        let key = rig.key("control");
        !rig.connection.exists::<_, bool>(key).await.unwrap()
    })
    .await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_cancelled_wherever_they_wait() {
    let mut rig = Setup::default().without_worker().await;
    let console = Console::new();
    console.command(&rig, &["cancel", "nobody"]).assert().code(1).stderr(contains("no such job"));
    console.command(&rig, &["cancel", "--batch", "nobody"]).assert().code(1).stderr(contains("no waiting job"));
    console.command(&rig, &["cancel"]).assert().code(2);
    // A job in a lane, with a duplicate behind it; a job with a default id; and one that stays.
    let next = json!({"absent": {"type": "CheckUser", "args": {"email": "n@example.com"}}});
    rig.enqueue(&with(with(check("waiting", "c"), "next", next), "reply", true)).await;
    rig.enqueue(&check("waiting", "c")).await;
    let nameless = json!({"type": "CheckUser", "caller_id": "c", "args": {"email": "x@example.com"}}).to_string();
    let nameless = format!("interactive:0:{}", rig.enqueue_text("interactive", &nameless).await);
    rig.enqueue(&check("stays", "c")).await;
    assert_eq!(console.why(&rig, "stays")["holds"], json!(["no_worker"]));
    assert_eq!(console.why(&rig, "stays")["ahead"], 3);
    let counted = console.done(&rig, &["cancel", "--caller", "c", "--dry-run"]).remove(0);
    let jobs = json!({"caller": "c"});
    assert_eq!(
        counted,
        json!({"jobs": jobs, "delayed": 0, "waiting": 4, "in_flight": 0, "exact": true, "looked_at": 4})
    );
    console
        .command(&rig, &["cancel", "waiting", "--dry-run"])
        .assert()
        .code(0)
        .stdout(contains("would be cancelled: waiting"));
    assert_eq!(console.why(&rig, "waiting")["holds"], json!(["no_worker"]), "a dry run changes nothing");
    console.command(&rig, &["cancel", "waiting", &nameless]).assert().code(0).stdout(contains("cancelled: waiting"));
    rig.start_worker();
    rig.wait_for(3).await;
    let event = rig.completion("waiting").await;
    assert_eq!((&event["status"], &event["error"]["kind"]), (&json!("cancelled"), &json!("cancelled")), "{event:#}");
    assert_eq!((&event["attempts"], event.get("dead_lettered")), (&json!(0), None));
    assert_eq!(status_of(&rig, &nameless), Some("cancelled"));
    assert_eq!(status_of(&rig, "stays"), Some("succeeded"));
    console.command(&rig, &["cancel", "stays"]).assert().code(1).stderr(contains("it has ended: succeeded"));
    assert_eq!(console.why(&rig, "waiting")["status"], "cancelled");

    // A job delayed until tomorrow. Jobs enqueued after the rule are not affected.
    rig.enqueue(&with(check("tomorrow", "c"), "run_at", in_time(Duration::from_secs(86_400)))).await;
    for n in 0..3 {
        let job = with(check(&format!("t{n}"), "them"), "run_at", in_time(Duration::from_secs(86_400)));
        rig.enqueue(&job).await;
    }
    rig.eventually("parked", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 4
    })
    .await;
    assert_eq!(console.why(&rig, "tomorrow")["waits_for"], "run_at");
    let asked = Instant::now();
    console.done(&rig, &["cancel", "tomorrow"]);
    rig.completion("tomorrow").await;
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_eq!(console.done(&rig, &["cancel", "--caller", "them"])[0]["parked"], 3);
    rig.wait_for(7).await;
    for id in ["tomorrow", "t0", "t1", "t2"] {
        assert_eq!(status_of(&rig, id), Some("cancelled"), "{id}");
    }
    assert_eq!(rig.complete(check("after", "them")).await["status"], "succeeded");
    assert!(rig.sandbox.calls_of(Route::Exists).len() == 2, "stays and after");

    let actions = console.done(&rig, &["audit"]);
    assert!(actions.iter().all(|action| action["who"] == "ada"));
    let last = actions.last().unwrap();
    assert_eq!((&last["action"], &last["count"]), (&json!("cancel parked"), &json!(3)), "{last:#}");
    assert!(!actions.iter().any(|action| action.to_string().contains("them")), "callers are not told");
    rig.end().await;
}

#[tokio::test]
async fn what_comes_after_an_order_is_not_covered_by_it_however_soon() {
    let mut rig = Setup::default().without_worker().await;
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let moment = |entry: String| entry.split_once('-').unwrap().0.parse::<u64>().unwrap();
    for _ in 0..300 {
        let before = moment(rig.enqueue_text("interactive", "before").await);
        let at_ms = rules::past_ms(&mut link).await.unwrap();
        let after = moment(rig.enqueue_text("interactive", "after").await);
        assert!(before <= at_ms && at_ms < after, "{before} <= {at_ms} < {after}");
    }
    let lane = rig.key("jobs:interactive");
    let () = rig.connection.del(lane).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_cancelled_with_some_of_it_under_way() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 8;
    setup.config.limits.caller = Some(limit("1/h", 1));
    setup.sandbox.latency = xco_worker::sandbox::Latency::fixed(Duration::from_millis(200));
    let mut rig = setup.start().await;
    rig.start_worker();
    let console = Console::new();
    for n in 0..400 {
        // Every second job waits an hour for the limit of one caller.
        let caller = if n % 2 == 0 { "one".to_owned() } else { format!("c{n}") };
        rig.enqueue(&with(check(&format!("j{n:03}"), &caller), "batch", "spring")).await;
    }
    rig.wait_for(20).await;
    console
        .command(&rig, &["cancel", "--batch", "spring"])
        .assert()
        .code(0)
        .stdout(contains("cancelled: batch spring"));
    rig.wait_for(400).await;
    let counted = batch(&mut rig, "spring").await;
    let count = |status: &str| rig.completions.iter().filter(|event| event["status"] == status).count() as u64;
    let (succeeded, cancelled) = (count("succeeded"), count("cancelled"));
    assert_eq!(succeeded + cancelled, 400);
    // All jobs that waited for the limit. On a slow machine the others may have completed before the rule.
    assert!(succeeded >= 20 && cancelled >= 199, "{succeeded} {cancelled}");
    assert_eq!(counted["accepted"], 400, "{counted:?}");
    assert_eq!((counted["succeeded"], counted["cancelled"]), (succeeded, cancelled));
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len() as u64, succeeded, "no call for a cancelled one");
    rig.eventually("the order is forgotten with its last job", async |rig: &mut Rig| {
        let key = rig.key("control");
        !rig.connection.exists::<_, bool>(key).await.unwrap()
    })
    .await;
    console.command(&rig, &["cancel", "--batch", "spring"]).assert().code(1).stderr(contains("no waiting job"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_doubt_stays_in_doubt() {
    let mut setup = Setup::default();
    setup.config.xco.timeout = Duration::from_millis(500);
    setup.config.retry.base = Some(Duration::from_secs(3600));
    setup.config.retry.cap = Some(Duration::from_secs(3600));
    let mut rig = setup.start().await;
    let console = Console::new();
    rig.sandbox.order(Fault::hang().after_effect().on(Route::Create));
    rig.enqueue(&create("doubtful", "d@example.com")).await;
    rig.sandbox.order(Fault::status(503).on(Route::Exists));
    rig.enqueue(&check("failed", "c")).await;
    rig.eventually("both wait for their next attempt", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 2
    })
    .await;
    let why = console.why(&rig, "doubtful");
    assert_eq!((&why["waits_for"], &why["in_doubt"], &why["attempts"]), (&json!("retry"), &json!(true), &json!(1)));
    console.done(&rig, &["cancel", "doubtful", "failed"]);
    let event = rig.completion("doubtful").await;
    assert_eq!((&event["status"], &event["error"]["kind"]), (&json!("failed"), &json!("in_doubt")), "{event:#}");
    assert_eq!((&event["dead_lettered"], &event["attempts"]), (&json!(true), &json!(1)));
    let event = rig.completion("failed").await;
    assert_eq!((&event["status"], &event["attempts"]), (&json!("cancelled"), &json!(1)), "{event:#}");
    let why = console.why(&rig, "doubtful");
    assert_eq!((&why["place"], &why["dead_letter"]), (&json!("ended"), &json!(true)));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_neither_paused_nor_cancelled() {
    let mut setup = Setup::default();
    setup.sandbox.latency = xco_worker::sandbox::Latency::fixed(Duration::from_secs(4));
    setup.config.xco.timeout = Duration::from_secs(10);
    setup.config.worker.concurrency = 1;
    setup.config.worker.adaptive = false;
    let mut rig = setup.start().await;
    let console = Console::new();
    rig.enqueue(&check("calling", "a")).await;
    rig.eventually("it is called", async |rig: &mut Rig| rig.sandbox.calls_of(Route::Exists).len() == 1).await;
    // The worker has read this job, too. It waits for the only slot.
    rig.enqueue(&check("behind", "b")).await;
    let why = console.why(&rig, "calling");
    assert_eq!((&why["place"], &why["deliveries"]), (&json!("in_flight"), &json!(1)), "{why:#}");
    console.command(&rig, &["cancel", "calling"]).assert().code(0).stdout(contains("no further call is made"));
    console.done(&rig, &["pause", "--all"]);
    assert_eq!(rig.completion("calling").await["status"], "succeeded");
    rig.eventually("the other went back to its lane", async |rig: &mut Rig| {
        console.why(rig, "behind")["place"] == "waiting"
    })
    .await;
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len(), 1, "nothing more was begun");
    console.done(&rig, &["resume", "--all"]);
    assert_eq!(rig.completion("behind").await["status"], "succeeded");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_workers_waits_errors_and_rates() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("1/h", 1));
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.start().await;
    let console = Console::new();
    rig.eventually("the worker is seen", async |rig: &mut Rig| {
        rig.connection.hlen::<_, u64>(rig.key("workers")).await.unwrap() == 1
    })
    .await;
    rig.enqueue(&check("first", "one")).await;
    rig.completion("first").await;
    rig.enqueue(&check("limited", "one")).await;
    rig.enqueue(&with(check("later", "two"), "run_at", in_time(Duration::from_secs(3600)))).await;
    rig.enqueue_text("bulk", "no job").await;
    rig.wait_for(2).await;
    rig.eventually("two are parked", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 2
    })
    .await;
    let why = console.command(&rig, &["why", "limited"]).assert().code(0).get_output().stdout.clone();
    assert!(String::from_utf8(why).unwrap().contains("its turn in the limit of caller:one"));
    console.command(&rig, &["why", "nobody"]).assert().code(1).stdout(contains("not known"));
    let mut pipe = redis::pipe();
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut rig.connection).await.unwrap();
    #[allow(clippy::cast_precision_loss)]
    let (now_us, closed_us) = (seconds as f64 * 1e6, (seconds + 50) as f64 * 1e6);
    // Refused at the rate that it has: it stays so for a while.
    let record = [closed_us, closed_us, 1.0, 4e-6, closed_us, 1.0, now_us, 0.0, 0.0, 4e-6, now_us];
    let record: Vec<u8> = record.into_iter().flat_map(f64::to_le_bytes).collect();
    pipe.zadd(rig.key("learned"), "caller:one", seconds * 1000).expire(rig.key("learned"), 60);
    pipe.set_ex(rig.key("limit:caller:one"), record, 60);
    pipe.exec_async(&mut rig.connection).await.unwrap();
    let status = console.status(&rig);
    assert_eq!(status["delayed"], json!({"total": 2, "by_reason": {"limit": 1, "run_at": 1}, "exact": true}));
    assert_eq!(status["dead_letters"]["by_kind"], json!({"invalid_job": 1}));
    assert_eq!(status["completions"]["CheckUser"]["succeeded"], 1);
    assert_eq!((&status["breaker"]["open"], &status["partitions"]), (&json!(false), &json!(2)));
    let learned = &status["learned_limits"][0];
    assert_eq!((&learned["bucket"], &learned["calls_per_second"]), (&json!("caller:one"), &json!(4.0)), "{learned:#}");
    let worker = &status["workers"][0];
    assert_eq!((&worker["version"], &worker["slots"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(64)), "{worker:#}");
    assert!(worker["uptime_ms"].as_u64().is_some() && worker["silent_ms"].as_u64().unwrap() < 5_000, "{worker:#}");
    console.command(&rig, &["status"]).assert().code(0).stdout(contains("learned 4.00/s").and(contains("WORKER")));
    rig.connection.del::<_, u64>(rig.key("limit:caller:one")).await.unwrap();
    console.done(&rig, &["cancel", "limited", "later"]);
    rig.completion("limited").await;
    rig.completion("later").await;
    rig.stop_workers().await;
    assert_eq!(rig.connection.hlen::<_, u64>(rig.key("workers")).await.unwrap(), 0, "it took itself off the list");
    rig.connection.set_ex::<_, _, ()>(rig.key("breaker"), "open", 9).await.unwrap();
    let status = console.status(&rig);
    assert_eq!((&status["breaker"]["open"], &status["workers"]), (&json!(true), &json!([])), "{status:#}");
    rig.end().await;
}

/// A consent that may have been given waits for a limit and a pause, and changes workers. Its doubt is kept, also in
/// its dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_outlives_a_429_a_pause_and_its_worker() {
    let mut rig = Setup::default().start().await;
    let console = Console::new();
    rig.sandbox.seed_user(&account("k@example.com"));
    let code = rig.code_for("ip", "k@example.com").await;
    let verified = rig.complete(verify("v", "ip", "k@example.com", &code)).await;
    let challenge = verified["result"]["consent_challenge_id"].as_str().unwrap().to_owned();
    let answers = [Fault::reset().after_effect(), Fault::status(429).retry_after("3"), Fault::status(422)];
    for answer in answers {
        rig.sandbox.order(answer.on(Route::Consent));
    }
    rig.enqueue(&consent("c", &challenge)).await;
    rig.eventually("it met the limit", async |rig: &mut Rig| rig.sandbox.calls_of(Route::Consent).len() == 2).await;
    console.done(&rig, &["pause", "--type", "FinalizeConsent"]);
    rig.eventually("it is paused", async |rig: &mut Rig| console.why(rig, "c")["waits_for"] == "paused").await;
    rig.stop_workers().await;
    rig.start_worker();
    console.done(&rig, &["resume", "--type", "FinalizeConsent"]);
    let event = rig.completion("c").await;
    assert_eq!(
        (&event["error"]["kind"], &event["error"]["http_status"]),
        (&json!("in_doubt"), &json!(422)),
        "{event:#}"
    );
    assert_eq!(event["attempts"], 3);
    console
        .command(&rig, &["dead", "replay", "--id", "c", "--yes"])
        .assert()
        .code(1)
        .stdout(contains("--accept-doubt"));
    assert_eq!(rig.sandbox.calls_of(Route::Consent).len(), 3);
    nothing_held(&mut rig).await;
    rig.end().await;
}
