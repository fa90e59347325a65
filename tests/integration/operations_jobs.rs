//! The operations on jobs, called as a program calls them: without the binary.

use super::{
    commands::pointed,
    support::{Rig, Setup, check, in_time, limit, with},
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::json;
use std::time::{Duration, Instant};
use xco_worker::{
    config::{Config, RedisConfig},
    contract::Lane,
    operations::{
        Actor, Backend, Error, MerchantScope, NoProgress,
        jobs::{self, CancelDetail, DelayReason, InForce, JobPlace, SearchBounds},
        pauses::{self, PauseRequest},
        status::SnapshotCollector,
    },
    queue::{Connector, Keys, learned, rescue},
    rules::Selector,
    sandbox::Route,
};

const WAIT: Duration = Duration::from_secs(10);

fn operator(rig: &Rig) -> (Config, RedisConfig) {
    (rig.config.clone(), rig.redis_as("operator"))
}

fn ada() -> Actor {
    Actor::new("ada", "box")
}

fn batch(name: &str) -> Selector {
    Selector { batch: Some(name.to_owned()), ..Selector::default() }
}

fn lane(lane: Lane) -> Selector {
    Selector { lane: Some(lane), ..Selector::default() }
}

async fn delayed(rig: &mut Rig, count: u64) {
    rig.eventually("they are delayed", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_explained_wherever_it_is() {
    let mut rig = Setup::default().without_worker().await;
    let (config, redis) = operator(&rig);
    let mut backend = Backend::connect(&redis).await.unwrap();
    let unknown = jobs::explain(&mut backend, &config, "nobody", &MerchantScope::all(), &NoProgress).await.unwrap();
    assert!(!unknown.is_known());
    let searched = json!({"live": 0, "ended": 0, "everything": true});
    let words = [
        "nobody: not known. Looked through 0 waiting or delayed jobs and 0 completions and dead letters: that is all there is",
    ];
    assert_eq!(json!(unknown), json!({"id": "nobody", "place": "unknown", "searched": searched, "words": words}));

    let entry = rig.enqueue(&check("first", "c")).await;
    let waiting = jobs::explain(&mut backend, &config, "first", &MerchantScope::all(), &NoProgress).await.unwrap();
    let JobPlace::Waiting { job, .. } = &waiting.place else { panic!("{waiting:#?}") };
    assert_eq!(
        json!(waiting),
        json!({
            "id": "first", "partition": 0, "place": "waiting", "ahead": 0, "ahead_is_exact": true, "lane": "interactive",
            "origin": format!("interactive:0:{entry}"), "enqueued_at": job.enqueued_at, "holds": ["no_worker"],
            "words": waiting.words,
        })
    );
    let [place, since, hold] = &waiting.words[..] else { panic!("{:?}", waiting.words) };
    assert_eq!(place, "first: waits in the interactive lane, behind 0 jobs");
    assert!(since.starts_with("enqueued ") && since.ends_with(&format!(" ago, at {}", job.enqueued_at)), "{since}");
    assert_eq!(hold, "no worker is running");

    // PHP writes a slash as `\/`.
    rig.enqueue_text(
        "interactive",
        r#"{"id":"php\/1","type":"CheckUser","caller_id":"c","args":{"email":"a@example.com"}}"#,
    )
    .await;
    let escaped = jobs::explain(&mut backend, &config, "php/1", &MerchantScope::all(), &NoProgress).await.unwrap();
    assert!(matches!(escaped.place, JobPlace::Waiting { ahead: 1, .. }), "{escaped:?}");

    rig.start_worker();
    rig.completion("first").await;
    let ended = jobs::explain(&mut backend, &config, "first", &MerchantScope::all(), &NoProgress).await.unwrap();
    let JobPlace::Ended(how) = &ended.place else { panic!("{ended:#?}") };
    assert_eq!((how.status.as_deref(), how.attempts, how.dead_letter), (Some("succeeded"), Some(1), false));
    assert_eq!((&json!(ended)["place"], json!(ended).get("error")), (&json!("ended"), None));

    let at = in_time(Duration::from_secs(3600));
    rig.enqueue(&with(check("later", "c"), "run_at", at)).await;
    delayed(&mut rig, 1).await;
    let later = jobs::explain(&mut backend, &config, "later", &MerchantScope::all(), &NoProgress).await.unwrap();
    let JobPlace::Delayed { waits_for, until, job, .. } = &later.place else { panic!("{later:#?}") };
    assert_eq!((*waits_for, until.is_some(), job.history.unwrap().attempts), (DelayReason::RunAt, true, 0));
    assert_eq!((&json!(later)["place"], &json!(later)["waits_for"]), (&json!("parked"), &json!("run_at")));

    let job = jobs::examine(&mut backend, "later", &MerchantScope::all(), &NoProgress).await.unwrap();
    assert_eq!(job.detail, CancelDetail::Delayed);
    let done = jobs::cancel_job(&mut backend, &ada(), job).await.unwrap();
    assert_eq!(json!(done), json!({"id": "later", "cancelled": true, "detail": "called up"}));
    rig.completion("later").await;
    let job = jobs::examine(&mut backend, "later", &MerchantScope::all(), &NoProgress).await.unwrap();
    assert_eq!(job.detail, CancelDetail::Ended("cancelled".to_owned()));
    assert!(!jobs::cancel_job(&mut backend, &ada(), job).await.unwrap().cancelled);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_in_force_when_every_worker_says_so() {
    let mut rig = Setup::default().without_worker().await;
    let (_, redis) = operator(&rig);
    let mut backend = Backend::connect(&redis).await.unwrap();
    assert_eq!(
        pauses::in_force(&mut backend, WAIT).await.unwrap(),
        InForce { in_force_on: 0, workers: 0 },
        "without workers there is nothing to wait for"
    );
    rig.start_worker();
    rig.start_worker();
    rig.eventually("both are seen", async |rig: &mut Rig| {
        rig.connection.hlen::<_, u64>(rig.key("workers")).await.unwrap() == 2
    })
    .await;
    let both = InForce { in_force_on: 2, workers: 2 };
    let request = PauseRequest { jobs: lane(Lane::Interactive), lasting: None, reason: None };
    pauses::pause(&mut backend, &ada(), request).await.unwrap();
    let asked = Instant::now();
    assert_eq!(pauses::in_force(&mut backend, WAIT).await.unwrap(), both);
    assert!(asked.elapsed() < Duration::from_secs(5), "the news does not wait for the next heartbeat");
    for n in 0..20 {
        rig.enqueue(&check(&format!("j{n}"), &format!("c{n}"))).await;
    }
    // Neither worker takes any of them, however long one waits.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len(), 0);
    pauses::resume(&mut backend, &ada(), &lane(Lane::Interactive)).await.unwrap();
    assert_eq!(pauses::in_force(&mut backend, WAIT).await.unwrap(), both, "no rules are rules, too");
    rig.wait_for(20).await;
    let status = SnapshotCollector::start(&mut backend, 10).await.unwrap().collect(&mut backend).await.unwrap();
    assert!(!json!(status).to_string().contains("rules_version"), "what is internal is not shown");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cancellation_covers_is_counted_before_it_is_ordered() {
    let mut rig = Setup::default().without_worker().await;
    let (config, redis) = operator(&rig);
    let mut backend = Backend::connect(&redis).await.unwrap();
    for n in 0..5 {
        rig.enqueue(&with(check(&format!("a{n}"), "c"), "batch", "spring")).await;
    }
    rig.enqueue(&check("other", "c")).await;
    let counted = jobs::estimate(&mut backend, &config, &batch("spring"), &NoProgress).await.unwrap();
    assert_eq!((counted.delayed, counted.waiting, counted.in_flight, counted.exact), (0, 5, 0, true));
    assert_eq!(counted.total(), 5);
    // Other jobs wait, but none of this batch.
    let counted = jobs::estimate(&mut backend, &config, &batch("autumn"), &NoProgress).await.unwrap();
    assert!(counted.is_empty(), "{counted:?}");
    let control = rig.key("control");
    assert!(!rig.connection.exists::<_, bool>(control).await.unwrap(), "counting orders nothing");
    let nothing = jobs::cancel(&mut backend, &ada(), &config, &lane(Lane::Bulk), &NoProgress).await.unwrap_err();
    assert!(matches!(nothing, Error::NothingFits(_)) && nothing.remedy().is_some(), "{nothing}");
    let done = jobs::cancel(&mut backend, &ada(), &config, &batch("spring"), &NoProgress).await.unwrap();
    assert_eq!(json!(done).to_string(), r#"{"cancelled":{"batch":"spring"},"in_lanes":6,"parked":0}"#);
    rig.start_worker();
    rig.wait_for(6).await;
    let cancelled = rig.completions.iter().filter(|event| event["status"] == "cancelled").count();
    assert_eq!((cancelled, rig.sandbox.calls_of(Route::Exists).len()), (5, 1));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_delayed_jobs_end_in_a_paused_lane() {
    let mut setup = Setup::default();
    setup.config.limits.caller = Some(limit("1/h", 1));
    let mut rig = setup.start().await;
    let (config, redis) = operator(&rig);
    let mut backend = Backend::connect(&redis).await.unwrap();
    for n in 0..150 {
        let job = with(check(&format!("j{n:03}"), "c"), "batch", if n % 2 == 0 { "spring" } else { "autumn" });
        rig.enqueue(&job).await;
    }
    delayed(&mut rig, 149).await;
    rig.wait_for(1).await;
    pauses::pause(&mut backend, &ada(), PauseRequest { jobs: Selector::default(), lasting: None, reason: None })
        .await
        .unwrap();
    pauses::in_force(&mut backend, WAIT).await.unwrap();
    rig.enqueue(&check("behind", "d")).await;

    let counted = jobs::estimate(&mut backend, &config, &batch("spring"), &NoProgress).await.unwrap();
    let count = counted.delayed;
    assert_eq!((counted.total(), counted.exact), (count, true));
    assert!((74..=75).contains(&count), "{counted:?}");
    let done = jobs::cancel(&mut backend, &ada(), &config, &batch("spring"), &NoProgress).await.unwrap();
    assert_eq!((done.delayed, done.in_force), (count, InForce { in_force_on: 1, workers: 1 }));
    let explanation = jobs::explain(&mut backend, &config, "j148", &MerchantScope::all(), &NoProgress).await.unwrap();
    assert!(!json!(explanation).to_string().contains("1970"), "{explanation:?}");
    rig.wait_for(usize::try_from(count).unwrap() + 1).await;
    let cancelled = rig.completions.iter().filter(|event| event["status"] == "cancelled").count();
    assert_eq!(cancelled as u64, count, "those that are paused stay");
    let counted = jobs::estimate(&mut backend, &config, &batch("spring"), &NoProgress).await.unwrap();
    assert!(counted.is_empty(), "{counted:?}");

    pauses::resume(&mut backend, &ada(), &Selector::default()).await.unwrap();
    rig.completion("behind").await;
    jobs::cancel(&mut backend, &ada(), &config, &batch("autumn"), &NoProgress).await.unwrap();
    rig.wait_for(151).await;
    rig.end().await;
}

/// One record, and one decoder of it.
#[tokio::test(flavor = "multi_thread")]
async fn status_shows_the_learned_rate_as_grown_by_now() {
    let mut rig = Setup::default().without_worker().await;
    let (_, redis) = operator(&rig);
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut rig.connection).await.unwrap();
    #[allow(clippy::cast_precision_loss)]
    let now_us = (seconds * 1_000_000 + micros) as f64;
    // Refused at 8 a second, lowered to 4, and half of the 25 s are over in which the rate grows back.
    let then_us = now_us - 12_500_000.0;
    let record = [then_us, then_us, 1.0, 0.000_004, then_us, 1.0, then_us, 0.0, 0.0, 0.000_008, then_us];
    let record: Vec<u8> = record.into_iter().flat_map(f64::to_le_bytes).collect();
    let mut pipe = redis::pipe();
    pipe.zadd(rig.key("learned"), "caller:one", seconds * 1000 - 12_500).expire(rig.key("learned"), 60);
    pipe.set_ex(rig.key("limit:caller:one"), record, 60);
    pipe.exec_async(&mut rig.connection).await.unwrap();

    let mut backend = Backend::connect(&redis).await.unwrap();
    let status = SnapshotCollector::start(&mut backend, 10).await.unwrap().collect(&mut backend).await.unwrap();
    let shown = status.learned_limits[0].calls_per_second.unwrap();
    assert!((6.0..7.0).contains(&shown), "{shown}");
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    let measured = learned::learned(&mut link, &keys, 10).await.unwrap().remove(0);
    let explained = learned::learned_by(&mut link, &keys, "caller:one").await.unwrap().unwrap();
    for other in [measured.rate_per_s.unwrap(), explained.rate_per_s.unwrap()] {
        assert!((other - shown).abs() < 0.5, "{other} {shown}");
    }
    assert_eq!(measured.last_429_ms, explained.last_429_ms);
    assert_eq!(learned::learned_by(&mut link, &keys, "caller:two").await.unwrap(), None);
    rig.connection.del::<_, ()>(&[rig.key("learned"), rig.key("limit:caller:one")]).await.unwrap();
    rig.end().await;
}

/// A token of the gateway may see the jobs of some merchants only. Another merchant's job is unknown to it, wherever the job is.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_another_merchant_is_unknown() {
    const OTHER: &str = "0f0e6a3f-7c53-4d4b-9f3c-2f4c7f0f3b22";
    let mut rig = Setup::default().start().await;
    let (config, redis) = operator(&rig);
    let mut backend = Backend::connect(&redis).await.unwrap();
    let ours = config.xco.merchant_id.clone().unwrap();
    let scope = MerchantScope::only([&ours], config.xco.merchant_id.as_ref());
    let at = in_time(Duration::from_secs(3600));
    rig.complete(check("ended", "c")).await;
    rig.complete(with(check("theirs-ended", "c"), "merchant_id", OTHER)).await;
    rig.enqueue(&with(check("delayed", "c"), "run_at", at.clone())).await;
    rig.enqueue(&with(with(check("theirs-delayed", "c"), "run_at", at), "merchant_id", OTHER)).await;
    delayed(&mut rig, 2).await;
    for id in ["ended", "delayed"] {
        assert!(jobs::explain(&mut backend, &config, id, &scope, &NoProgress).await.unwrap().is_known(), "{id}");
    }
    let unknown = jobs::explain(&mut backend, &config, "nobody", &scope, &NoProgress).await.unwrap();
    for id in ["theirs-ended", "theirs-delayed"] {
        let hidden = jobs::explain(&mut backend, &config, id, &scope, &NoProgress).await.unwrap();
        assert_eq!((hidden.place, hidden.partition), (unknown.place.clone(), None), "{id}");
        let known = jobs::explain(&mut backend, &config, id, &MerchantScope::all(), &NoProgress).await.unwrap();
        assert!(known.is_known(), "{id}");
        let job = jobs::examine(&mut backend, id, &scope, &NoProgress).await.unwrap();
        assert_eq!(job.detail, CancelDetail::Unknown, "{id}");
        assert!(!jobs::cancel_job(&mut backend, &ada(), job).await.unwrap().cancelled, "{id}");
    }
    for id in ["delayed", "theirs-delayed"] {
        let job = jobs::examine(&mut backend, id, &MerchantScope::all(), &NoProgress).await.unwrap();
        assert!(jobs::cancel_job(&mut backend, &ada(), job).await.unwrap().cancelled, "{id}");
        rig.completion(id).await;
    }
    rig.end().await;
}

/// Jobs that no worker has read yet end in a paused lane as well. Those that stay keep their order.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_waiting_jobs_end_in_a_paused_lane() {
    let mut setup = Setup::default();
    setup.config.worker.concurrency = 1;
    let mut rig = setup.without_worker().await;
    let (config, redis) = operator(&rig);
    let mut backend = Backend::connect(&redis).await.unwrap();
    rig.start_worker();
    rig.start_worker();
    rig.eventually("both are seen", async |rig: &mut Rig| {
        rig.connection.hlen::<_, u64>(rig.key("workers")).await.unwrap() == 2
    })
    .await;
    // Redis counts what was read from the first read on.
    rig.complete(check("first", "c")).await;
    pauses::pause(&mut backend, &ada(), PauseRequest { jobs: lane(Lane::Interactive), lasting: None, reason: None })
        .await
        .unwrap();
    assert!(pauses::in_force(&mut backend, WAIT).await.unwrap().in_force_on == 2);
    for n in 0..300 {
        let job = check(&format!("j{n:03}"), "c");
        rig.enqueue(&if n % 3 == 0 { job } else { with(job, "batch", "spring") }).await;
    }
    // Far larger than a job may be: it does not weigh on a worker that walks past it.
    let large = format!("{{\"id\":\"large\",\"batch\":\"spring\",\"args\":\"{}\"}}", "x".repeat(3_000_000));
    rig.enqueue_text("interactive", &large).await;
    jobs::cancel(&mut backend, &ada(), &config, &batch("spring"), &NoProgress).await.unwrap();
    rig.enqueue(&with(check("later", "c"), "batch", "spring")).await;
    rig.wait_for(201).await;
    assert!(rig.completions[1..].iter().all(|event| event["status"] == "cancelled" && event["batch"] == "spring"));
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len(), 1);
    let mut link = Connector::new(&rig.config.redis).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    let removed = rescue::count_removed(&mut link, &keys, Lane::Interactive, Some(1_000)).await.unwrap();
    assert_eq!(removed, (Some(0), 0), "nobody else removed them");
    // A read that was under way when the pause came took the first jobs. The workers delayed them, or gave them back to the lane.
    let mut places = redis::pipe();
    places.atomic().xlen(rig.key("jobs:interactive")).hlen(rig.key("delayed:jobs")).xlen(rig.key("due:interactive"));
    let [unread, delayed, due]: [u64; 3] = places.query_async(&mut rig.connection).await.unwrap();
    let read = delayed + due;
    assert_eq!((unread + read, read <= 2), (102, true), "the others stay where they are: {unread} + {delayed} + {due}");
    let job = jobs::examine(&mut backend, "j297", &MerchantScope::all(), &NoProgress).await.unwrap();
    assert_eq!(job.detail, CancelDetail::Waiting);
    jobs::cancel_job(&mut backend, &ada(), job).await.unwrap();
    assert_eq!(rig.completion("j297").await["status"], "cancelled");

    pauses::resume(&mut backend, &ada(), &lane(Lane::Interactive)).await.unwrap();
    rig.wait_for(303).await;
    let later = rig.completions.iter().find(|event| event["id"] == "later").unwrap();
    assert_eq!(later["status"], "succeeded", "it was enqueued after the cancellation");
    let rejected = rig.completions.iter().filter(|event| event["status"] == "rejected");
    assert_eq!(rejected.count(), 1, "the large one");
    assert_eq!(rig.sandbox.calls_of(Route::Exists).len(), 101);
    let removed = rescue::count_removed(&mut link, &keys, Lane::Interactive, Some(1_000)).await.unwrap();
    assert_eq!(removed, (Some(0), 0), "nor later");
    rig.end().await;
}

/// Adds jobs that no worker has read, in one step.
const ADD_MANY: &str =
    "for n = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'job', '{\"id\":\"other-' .. n .. '\"}') end";

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_is_bounded_says_so_and_another_finds_the_job() {
    let mut rig = Setup::default().without_worker().await;
    let (config, redis) = operator(&rig);
    let lane = rig.key("jobs:bulk");
    let _: () = redis::Script::new(ADD_MANY).key(&lane).arg(2_500).invoke_async(&mut rig.connection).await.unwrap();
    rig.enqueue_text("bulk", &with(check("last", "c"), "batch", "spring").to_string()).await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let (everyone, bounds) = (MerchantScope::all(), SearchBounds { jobs: 2_000, ended: 1_000 });
    let found = jobs::explain_within(&mut backend, &config, "last", &everyone, bounds, &NoProgress).await.unwrap();
    assert!(!found.is_known() && found.has_more(), "{found:?}");
    let searched = json!(found)["searched"].clone();
    assert_eq!((&searched["live"], &searched["everything"]), (&json!(2_000), &json!(false)));
    assert!(found.words[0].contains("there is more, which was not looked at"), "{:?}", found.words);
    let none = SearchBounds::NONE;
    let found = jobs::explain_within(&mut backend, &config, "last", &everyone, none, &NoProgress).await.unwrap();
    assert!(found.is_known() && !found.has_more() && found.words[0].contains("waits in the bulk lane"), "{found:?}");
    let counted = jobs::estimate_within(&mut backend, &config, &batch("spring"), 2_000, &NoProgress).await.unwrap();
    assert_eq!((counted.total(), counted.looked_at, counted.exact), (0, 2_000, false), "{counted:?}");
    let counted = jobs::estimate(&mut backend, &config, &batch("spring"), &NoProgress).await.unwrap();
    assert_eq!((counted.total(), counted.looked_at, counted.exact), (1, 2_501, true), "{counted:?}");

    let folder = tempfile::tempdir().unwrap();
    pointed(&folder, &rig).args(["why", "last", "--all"]).assert().code(0).stdout(contains("waits in the bulk lane"));
    let unknown = pointed(&folder, &rig).args(["why", "nobody"]).assert().code(1);
    unknown.stdout(contains("that is all there is")).stderr(contains("--all").not());
}
