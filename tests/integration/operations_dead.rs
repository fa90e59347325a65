//! Operations on dead letters, called as a program calls them: without the binary.

use super::{
    dead_letters::audit,
    dead_replay::write,
    support::{Rig, Setup, check, with},
};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{Config, RedisConfig, parse_rate},
    contract::Partitions,
    operations::{
        Actor, Backend, Error, MerchantScope, NoProgress, Progress,
        dead_letters::{
            self, Changes, Filter, GroupBy, ListRequest, Reason, Rest, Reveal, Scope, ShowRequest, discard,
            replay::{self, ReplayPlan, ReplayRequest},
        },
    },
};

fn actor() -> Actor {
    Actor::new("ada", "10.0.0.7")
}

async fn rig() -> (Rig, RedisConfig, Config) {
    let rig = Setup::default().without_worker().await;
    let redis = rig.redis_as("operator");
    let config = Config { redis: redis.clone(), ..rig.config.clone() };
    (rig, redis, config)
}

async fn write_many(rig: &mut Rig, name: &str, count: usize) {
    for number in 0..count {
        write(rig, &check(&format!("{name}-{number}"), "c"), "upstream", "").await;
    }
}

async fn length(rig: &mut Rig, stream: &str) -> u64 {
    let key = rig.key(stream);
    rig.connection.xlen(key).await.unwrap()
}

fn request(filter: Filter, rate: &str) -> ReplayRequest {
    ReplayRequest {
        filter,
        changes: Changes::default(),
        send_codes: false,
        accept_doubt: false,
        rate: parse_rate(rate).unwrap(),
        limit: None,
    }
}

async fn planned(backend: &mut Backend<'_>, config: &Config, rate: &str) -> ReplayPlan {
    let filter = Filter::default();
    let scope = dead_letters::scope(backend, &filter).await.unwrap();
    replay::plan(backend, config, request(filter, rate), scope).await.unwrap()
}

/// Collects reports; stops the operation after the first step if it is to.
#[derive(Default)]
struct Seen {
    total: AtomicU64,
    steps: AtomicU64,
    notes: Mutex<Vec<String>>,
    stop: Option<CancellationToken>,
}

impl Progress for Seen {
    fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, steps: u64) {
        self.steps.fetch_add(steps, Ordering::Relaxed);
        if let Some(stop) = &self.stop {
            stop.cancel();
        }
    }

    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_page_by_page_over_all_partitions() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.without_worker().await;
    let redis = rig.redis_as("operator");
    // The same entries in both partitions: a page may end between the two.
    for partition in 0..2 {
        let key = format!("{{{}:{partition}}}:dead", redis.namespace);
        for ms in 1..=3 {
            let fields = [("id", format!("{partition}-{ms}")), ("type", "CheckUser".to_owned())];
            let _: String = rig.connection.xadd(&key, format!("{ms}-0"), &fields).await.unwrap();
        }
    }
    let mut backend = Backend::connect(&redis).await.unwrap();
    let mut request = ListRequest { filter: Filter::default(), limit: 2, after: None };
    let mut pages = Vec::new();
    loop {
        let list = dead_letters::list(&mut backend, &request).await.unwrap();
        pages.push(list.dead_letters.iter().map(|one| one.id.clone()).collect::<Vec<_>>());
        if pages.len() == 1 {
            assert_eq!(list.rest, Rest::Exactly(4));
        }
        let Some(next) = list.next else {
            assert_eq!(list.rest, Rest::Nothing);
            break;
        };
        request.after = Some(next);
    }
    assert_eq!(pages, [["0-3", "1-3"], ["0-2", "1-2"], ["0-1", "1-1"]]);
    request = ListRequest { filter: Filter::default(), limit: 3, after: None };
    let first = dead_letters::list(&mut backend, &request).await.unwrap();
    request.after = first.next;
    let second = dead_letters::list(&mut backend, &request).await.unwrap();
    assert_eq!(second.dead_letters.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["1-2", "0-1", "1-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revealed_is_recorded_under_the_actors_name() {
    let all = MerchantScope::all();
    let request = |id, reveal| ShowRequest { id, merchants: &all, reveal };
    let (mut rig, redis, _) = rig().await;
    write(&mut rig, &check("one", "c"), "upstream", "").await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let masked = dead_letters::show(&mut backend, &actor(), &request("one", Reveal::Masked)).await.unwrap();
    assert_eq!(masked.dead_letters[0].job["caller_id"], "x");
    assert!(audit(&mut rig).await.is_empty());
    let revealed = dead_letters::show(&mut backend, &actor(), &request("one", Reveal::Recorded)).await.unwrap();
    assert_eq!(revealed.dead_letters[0].job["caller_id"], "c");
    let mut out = Vec::new();
    assert_eq!(dead_letters::export(&mut backend, &actor(), &Filter::default(), &mut out).await.unwrap(), 1);
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["job"]["caller_id"], "c");
    let recorded = audit(&mut rig).await;
    let actions: Vec<_> = recorded.iter().map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["dead show", "dead export", "dead export ended"]);
    assert!(recorded.iter().all(|entry| entry["who"] == "ada" && entry["from"] == "10.0.0.7"));
    let unknown = dead_letters::show(&mut backend, &actor(), &request("two", Reveal::Masked)).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownDeadLetter) && unknown.remedy().is_some(), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_revelations_an_hour_are_recorded_with_their_reason_and_no_more() {
    let (mut rig, redis, _) = rig().await;
    write(&mut rig, &check("one", "c"), "upstream", "").await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let reason: Reason = "call 17".parse().unwrap();
    let all = MerchantScope::all();
    let request = ShowRequest { id: "one", merchants: &all, reveal: Reveal::ForReason(reason) };
    for _ in 0..dead_letters::MAX_REVEALS {
        dead_letters::show(&mut backend, &actor(), &request).await.unwrap();
    }
    for _ in 0..2 {
        let refused = dead_letters::show(&mut backend, &actor(), &request).await.unwrap_err();
        assert!(matches!(refused, Error::TooManyReveals) && refused.remedy().is_some(), "{refused:?}");
    }
    // A colleague's are counted apart.
    dead_letters::show(&mut backend, &Actor::new("dan", "box"), &request).await.unwrap();
    let recorded = audit(&mut rig).await;
    assert_eq!(recorded.len(), 61);
    assert!(recorded.iter().all(|entry| entry["what"] == r#"{"id":"one","reason":"call 17"}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_pieces_is_masked_unless_a_reason_is_given() {
    let (mut rig, redis, _) = rig().await;
    for number in 0..300 {
        let job = with(check(&format!("job-{number}"), "Ada"), "meta", json!({"pad": "Ada".repeat(200)}));
        write(&mut rig, &job, "upstream", r#"{"o":"bulk:0:1-0"}"#).await;
    }
    let mut backend = Backend::connect(&redis).await.unwrap();
    for (reveal, is_revealed) in [(Reveal::Masked, false), (Reveal::ForReason("call 17".parse().unwrap()), true)] {
        let (to, mut pieces) = tokio::sync::mpsc::channel(2);
        let filter = Filter::default();
        let collected = async {
            let mut all: Vec<Vec<u8>> = Vec::new();
            while let Some(piece) = pieces.recv().await {
                all.push(piece);
            }
            all
        };
        let sent = async {
            let count = dead_letters::export_to(&mut backend, &actor(), &filter, &reveal, &to).await;
            drop(to);
            count
        };
        let (count, pieces) = tokio::join!(sent, collected);
        assert_eq!(count.unwrap(), 300);
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.ends_with(b"\n")), "{}", pieces.len());
        let text = String::from_utf8(pieces.concat()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 300);
        assert_eq!(text.contains("Ada") || text.contains("example.com"), is_revealed);
        assert_eq!(lines[0].get("state").is_some(), is_revealed);
    }
    let recorded = audit(&mut rig).await;
    let actions: Vec<_> = recorded.iter().map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["dead export", "dead export ended"]);
    // A reader that has gone ends it.
    let (to, pieces) = tokio::sync::mpsc::channel(1);
    drop(pieces);
    let count = dead_letters::export_to(&mut backend, &actor(), &Filter::default(), &Reveal::Masked, &to).await;
    assert!(count.unwrap() < 300);

    let groups = dead_letters::group(&mut backend, &Filter::default(), vec![GroupBy::Caller, GroupBy::Type], 5).await;
    let printed = serde_json::to_value(groups.unwrap().fingerprinted()).unwrap();
    assert_eq!(printed["groups"][0]["type"], "CheckUser");
    let caller = printed["groups"][0]["caller"].as_str().unwrap();
    assert!(caller.starts_with("sha256:") && caller.len() == 19, "{caller}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_takes_no_dead_letter_that_its_plan_did_not_see() {
    let (mut rig, redis, config) = rig().await;
    write_many(&mut rig, "old", 30).await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let mut plan = planned(&mut backend, &config, "1000/s").await;
    assert_eq!((plan.estimate.replay, plan.estimate.refused), (30, 0));
    write_many(&mut rig, "new", 5).await;
    // As a gateway would keep it.
    plan.scope = serde_json::from_str::<Scope>(&serde_json::to_string(&plan.scope).unwrap()).unwrap();

    let progress = Seen::default();
    let run = replay::run(&mut backend, &config, &actor(), &plan, None, &progress, &CancellationToken::new()).await;
    let report = run.ok().unwrap();
    assert_eq!((report.replayed, report.interrupted, report.ends), (30, false, None));
    assert_eq!((progress.total.into_inner(), progress.steps.into_inner()), (30, 30));
    assert_eq!((length(&mut rig, "dead").await, length(&mut rig, "due:bulk").await), (5, 30));

    // The same plan again finds nothing; a plan of three takes three of five.
    let run = replay::run(&mut backend, &config, &actor(), &plan, None, &NoProgress, &CancellationToken::new()).await;
    assert_eq!(run.ok().unwrap().replayed, 0);
    let mut plan = planned(&mut backend, &config, "1000/s").await;
    plan.estimate.replay = 3;
    let run = replay::run(&mut backend, &config, &actor(), &plan, None, &NoProgress, &CancellationToken::new()).await;
    assert_eq!(run.ok().unwrap().replayed, 3);
    assert_eq!(length(&mut rig, "dead").await, 2);
    let recorded = audit(&mut rig).await;
    assert!(recorded.iter().all(|entry| entry["who"] == "ada" && entry["what"] == r#"{"filter":{}}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_can_be_stopped_and_goes_on_with_what_is_left() {
    let (mut rig, redis, config) = rig().await;
    write_many(&mut rig, "job", 40).await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let plan = planned(&mut backend, &config, "50/s").await;
    assert_eq!((plan.estimate.at_least_ms, plan.estimate.limited_by.to_string().as_str()), (780, "--rate"));
    let stop = CancellationToken::new();
    let progress = Seen { stop: Some(stop.clone()), ..Seen::default() };
    let stopped = replay::run(&mut backend, &config, &actor(), &plan, None, &progress, &stop).await.ok().unwrap();
    assert!(stopped.interrupted && (1..40).contains(&stopped.replayed), "{stopped:?}");
    assert_eq!(length(&mut rig, "dead").await, 40 - stopped.replayed);

    // Dropped in the middle, too; on a task of its own, as a gateway runs it.
    let task = tokio::spawn({
        let (redis, config, plan) = (redis.clone(), config.clone(), plan.clone());
        async move {
            let mut backend = Backend::connect(&redis).await.unwrap();
            let stop = CancellationToken::new();
            let _ = replay::run(&mut backend, &config, &actor(), &plan, None, &NoProgress, &stop).await;
        }
    });
    let before = 40 - stopped.replayed;
    rig.eventually("some have moved", async |rig| length(rig, "dead").await < before).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let left = length(&mut rig, "dead").await;
    let stop = CancellationToken::new();
    let rest = replay::run(&mut backend, &config, &actor(), &plan, None, &NoProgress, &stop).await.ok().unwrap();
    assert_eq!((rest.replayed, rest.interrupted), (left, false));
    assert_eq!((length(&mut rig, "dead").await, length(&mut rig, "due:bulk").await), (0, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_reports_how_the_jobs_ended() {
    let mut rig = Setup::default().start().await;
    let redis = rig.redis_as("operator");
    let config = Config { redis: redis.clone(), ..rig.config.clone() };
    write(&mut rig, &check("good", "c"), "upstream", "").await;
    write(&mut rig, &with(check("wrong", "c"), "nickname", "x"), "invalid_job", "").await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let plan = planned(&mut backend, &config, "50/s").await;
    assert_eq!(
        serde_json::to_value(&plan.estimate.kinds).unwrap(),
        json!([
            {"count": 1, "error": "upstream", "type": "CheckUser"},
            {"count": 1, "error": "invalid_job", "refused": "rejected", "type": "CheckUser"},
        ])
    );
    let progress = Arc::new(Seen::default());
    let wait = Some(Duration::from_secs(20));
    let stop = CancellationToken::new();
    let run = replay::run(&mut backend, &config, &actor(), &plan, wait, progress.as_ref(), &stop).await;
    let report = run.ok().unwrap();
    let ends = report.ends.clone().unwrap();
    assert_eq!((ends.outcomes, ends.outstanding), ([("absent".to_owned(), 1)].into(), 0));
    assert_eq!(progress.notes.lock().unwrap().len(), 1);
    let printed = serde_json::to_string(&report).unwrap();
    let (before, _) = printed.split_once(r#","took_ms":"#).unwrap();
    let fields = r#"{"gone":0,"interrupted":false,"outcomes":{"absent":1},"outstanding":0,"replayed":1,"superseded":0"#;
    assert_eq!(before, fields);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_only_dead_letter_touches_no_other() {
    let (mut rig, redis, config) = rig().await;
    let filter = Filter::default();
    let mut backend = Backend::connect(&redis).await.unwrap();
    assert!(matches!(replay::single(&mut backend, &filter).await, Err(Error::NoDeadLetter)));
    write(&mut rig, &with(check("wrong", "c"), "nickname", "x"), "invalid_job", "").await;
    let single = replay::single(&mut backend, &filter).await.ok().unwrap();
    assert!(single.job.contains("nickname"));
    // Written while the editor is open.
    write_many(&mut rig, "later", 1).await;
    assert!(matches!(replay::single(&mut backend, &filter).await, Err(Error::SeveralDeadLetters)));
    let changes = Changes { whole: Some(check("wrong", "c").to_string()), ..Changes::default() };
    let request = ReplayRequest { changes, ..request(filter, "50/s") };
    let plan = replay::plan(&mut backend, &config, request, single.scope).await.unwrap();
    assert_eq!(plan.estimate.replay, 1);
    let stop = CancellationToken::new();
    let report = replay::run(&mut backend, &config, &actor(), &plan, None, &NoProgress, &stop).await.ok().unwrap();
    assert_eq!((report.replayed, length(&mut rig, "dead").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_removes_what_its_plan_saw_and_can_be_stopped() {
    let (mut rig, redis, _) = rig().await;
    write_many(&mut rig, "old", 3).await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let plan = discard::plan(&mut backend, Filter::default()).await.unwrap();
    assert_eq!(
        serde_json::to_string(&plan.estimate).unwrap(),
        r#"{"discard":3,"kinds":[{"count":3,"error":"upstream","type":"CheckUser"}]}"#
    );
    write_many(&mut rig, "new", 1).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = discard::run(&mut backend, &actor(), &plan, &NoProgress, &stop).await.ok().unwrap();
    assert_eq!((stopped.discarded, stopped.interrupted), (0, true));
    let progress = Seen::default();
    let report = discard::run(&mut backend, &actor(), &plan, &progress, &CancellationToken::new()).await.ok().unwrap();
    assert_eq!(serde_json::to_string(&report).unwrap(), r#"{"discarded":3,"interrupted":false}"#);
    assert_eq!((progress.total.into_inner(), progress.steps.into_inner()), (3, 3));
    assert_eq!(length(&mut rig, "dead").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_cannot_be_recorded_does_not_begin() {
    let (mut rig, redis, config) = rig().await;
    write_many(&mut rig, "job", 2).await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let plan = planned(&mut backend, &config, "50/s").await;
    // An audit stream that cannot be written: nothing begins.
    let key = rig.key("audit");
    let _: () = rig.connection.set(&key, "no stream").await.unwrap();
    let stop = CancellationToken::new();
    let failed = replay::run(&mut backend, &config, &actor(), &plan, None, &NoProgress, &stop).await.err().unwrap();
    assert!(failed.report.is_none() && matches!(failed.error, Error::Redis { .. }), "{failed:?}");
    assert_eq!(length(&mut rig, "dead").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_fails_reports_what_it_did_by_then() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.without_worker().await;
    let redis = rig.redis_as("operator");
    let config = Config { redis: redis.clone(), ..rig.config.clone() };
    write_many(&mut rig, "first", 3).await;
    let key = rig.key_in(1, "dead");
    let job = check("second", "c").to_string();
    let fields = [("id", "second"), ("type", "CheckUser"), ("job", &job), ("error", "{}"), ("replayable", "true")];
    let _: String = rig.connection.xadd(key, "*", &fields).await.unwrap();
    let mut backend = Backend::connect(&redis).await.unwrap();
    let plan = planned(&mut backend, &config, "1000/s").await;
    assert_eq!(plan.estimate.replay, 4);
    // The lane of the second partition is no stream.
    let lane = rig.key_in(1, "due:bulk");
    let _: () = rig.connection.set(lane, "no stream").await.unwrap();
    let stop = CancellationToken::new();
    let failed = replay::run(&mut backend, &config, &actor(), &plan, None, &NoProgress, &stop).await.err().unwrap();
    let report = failed.report.unwrap();
    assert_eq!((report.replayed, report.interrupted), (3, false));
    assert!(matches!(failed.error, Error::Redis { .. }), "{:?}", failed.error);
    let recorded = audit(&mut rig).await;
    assert_eq!((recorded[1]["action"].as_str(), recorded[1]["count"].as_str()), ("dead replay ended", "3"));
}
