//! Replays and discards as tasks of a program: planned, watched, stopped, continued after a crash.

use super::{
    dead_letters::audit,
    dead_replay::write,
    support::{Rig, Setup, check, with},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::AsyncCommands;
use secrecy::SecretString;
use serde_json::json;
use std::{collections::BTreeSet, process::Command, sync::Arc, time::Duration};
use xco_worker::{
    config::{Config, parse_rate},
    contract::MerchantId,
    operations::{
        Actor, Backend, Error, MerchantScope,
        dead_letters::{
            self, Assignment, Changes, Filter, ListRequest,
            replay::ReplayRequest,
            runs::{self, RunCounts, RunError, RunKind, RunName, RunReport, RunState, Runs, StartRequest, Work},
        },
    },
};

const ONE: &str = "11111111-89ab-cdef-0123-456789abcdef";
const TWO: &str = "22222222-89ab-cdef-0123-456789abcdef";

fn actor() -> Actor {
    Actor::new("ada (ops)", "console at gw-1")
}

fn config(rig: &Rig) -> Arc<Config> {
    Arc::new(Config { redis: rig.redis_as("operator"), ..rig.config.clone() })
}

fn replay(rate: &str) -> ReplayRequest {
    ReplayRequest {
        filter: Filter::default(),
        changes: Changes::default(),
        send_codes: false,
        accept_doubt: false,
        rate: parse_rate(rate).unwrap(),
        limit: None,
    }
}

fn start(work: Work) -> StartRequest {
    StartRequest { work, name: None, merchants: MerchantScope::all() }
}

fn named(name: &str, work: Work) -> StartRequest {
    StartRequest { name: Some(RunName::from_key(name)), ..start(work) }
}

async fn write_many(rig: &mut Rig, name: &str, count: usize) {
    for number in 0..count {
        write(rig, &check(&format!("{name}-{number}"), &format!("{name}-{number}")), "upstream", "").await;
    }
}

async fn length(rig: &mut Rig, stream: &str) -> u64 {
    let key = rig.key(stream);
    rig.connection.xlen(key).await.unwrap()
}

fn name_of(report: &RunReport) -> RunName {
    report.run.parse().unwrap()
}

/// Waits until the run is as `wanted`.
async fn until(
    rig: &mut Rig,
    backend: &mut Backend<'_>,
    name: &RunName,
    mut wanted: impl FnMut(&RunReport) -> bool,
) -> RunReport {
    let mut last = None;
    rig.eventually("the run is as wanted", async |_| {
        let report = runs::get(backend, name, &MerchantScope::all()).await.unwrap();
        let is_wanted = wanted(&report);
        last = Some(report);
        is_wanted
    })
    .await;
    last.unwrap()
}

fn replayed(report: &RunReport) -> u64 {
    match &report.counts {
        RunCounts::Replay { replayed, .. } => *replayed,
        RunCounts::Discard { discarded } => *discarded,
    }
}

fn outstanding(report: &RunReport) -> u64 {
    match &report.counts {
        RunCounts::Replay { outstanding, .. } => *outstanding,
        RunCounts::Discard { .. } => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_started_watched_and_done() {
    let mut rig = Setup::default().start().await;
    let config = config(&rig);
    write_many(&mut rig, "old", 30).await;
    write(&mut rig, &with(check("wrong", "c"), "nickname", "x"), "invalid_job", "").await;
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let running = Runs::new(Arc::clone(&config));

    let planned = runs::plan_replay(&mut backend, &config, replay("10/s")).await.unwrap();
    let printed = serde_json::to_value(&planned).unwrap();
    assert_eq!((printed["replay"].as_u64(), printed["refused"].as_u64()), (Some(30), Some(1)));
    assert_eq!((printed["at_least_ms"].as_u64(), &printed["risks"]), (Some(2_900), &json!({})));
    assert!(planned.id.starts_with("p1.") && planned.id.len() < 64, "{}", planned.id);
    // Written after the plan: not taken.
    write_many(&mut rig, "new", 2).await;

    let work = Work::Plan { id: planned.id.clone(), kind: RunKind::Replay };
    let begun = running.start(&mut backend, &actor(), start(work.clone())).await.unwrap();
    assert_eq!((begun.state, begun.of, begun.by.as_str()), (RunState::Running, 30, "ada (ops)"));
    assert_eq!((begun.rate.as_deref(), &begun.filter), (Some("10/s"), &json!({})));
    // The same plan again is the same run.
    let again = running.start(&mut backend, &actor(), start(work)).await.unwrap();
    assert_eq!(again.run, begun.run);

    let name = name_of(&begun);
    let mut seen = BTreeSet::new();
    let done = until(&mut rig, &mut backend, &name, |report| {
        seen.insert(replayed(report));
        report.state == RunState::Done && outstanding(report) == 0
    })
    .await;
    assert!(seen.iter().any(|count| (1..30).contains(count)), "no progress was seen: {seen:?}");
    let outcomes = [("absent".to_owned(), 30)].into();
    assert_eq!(done.counts, RunCounts::Replay { replayed: 30, gone: 0, superseded: 0, outcomes, outstanding: 0 });
    assert!(done.ended_at.is_some() && done.problem.is_none() && done.stopped_by.is_none(), "{done:?}");
    assert_eq!(length(&mut rig, "dead").await, 3);
    let listed = runs::list(&mut backend, Some(RunKind::Replay), &MerchantScope::all(), 10).await.unwrap();
    assert_eq!(listed, [done]);
    assert!(runs::list(&mut backend, Some(RunKind::Discard), &MerchantScope::all(), 10).await.unwrap().is_empty());

    // What it was asked may be about a person: it is gone. What is left expires within a week.
    let key = rig.key(&format!("run:{name}"));
    let request: String = rig.connection.hget(&key, "request").await.unwrap();
    assert_eq!(request, "");
    let recorded = audit(&mut rig).await;
    let actions: Vec<_> = recorded.iter().map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["dead replay", "dead replay ended"]);
    assert!(recorded.iter().all(|entry| entry["who"] == "ada (ops)" && entry["what"].contains(name.as_str())));
    assert_eq!(recorded[1]["count"], "30");
    running.shut_down().await;
    rig.follow(30, |completions| completions.len() >= 30).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_takes_nothing_more() {
    let mut rig = Setup::default().without_worker().await;
    let config = config(&rig);
    write_many(&mut rig, "job", 60).await;
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let running = Runs::new(Arc::clone(&config));
    let begun = running.start(&mut backend, &actor(), start(Work::Replay(replay("20/s")))).await.unwrap();
    let name = name_of(&begun);
    until(&mut rig, &mut backend, &name, |report| replayed(report) > 0).await;
    let dan = Actor::new("dan", "console at gw-2");
    runs::stop(&mut backend, &dan, &name, &MerchantScope::all()).await.unwrap();
    let stopped = until(&mut rig, &mut backend, &name, |report| report.state == RunState::Stopped).await;
    let count = replayed(&stopped);
    assert!((1..60).contains(&count), "{stopped:?}");
    assert_eq!((stopped.stopped_by.as_deref(), outstanding(&stopped)), (Some("dan"), count));
    assert_eq!((length(&mut rig, "dead").await, length(&mut rig, "due:bulk").await), (60 - count, count));
    // It stays stopped, whoever asks again.
    let again = running.start(&mut backend, &actor(), named("r", Work::Rest(RunKind::Replay))).await;
    assert!(matches!(again, Err(RunError::UnknownRun)));
    let rest = StartRequest { name: Some(name.clone()), ..start(Work::Rest(RunKind::Replay)) };
    assert_eq!(running.start(&mut backend, &actor(), rest).await.unwrap().state, RunState::Stopped);
    let recorded = audit(&mut rig).await;
    let actions: Vec<_> = recorded.iter().map(|entry| (entry["action"].as_str(), entry["who"].as_str())).collect();
    assert_eq!(
        actions,
        [("dead replay", "ada (ops)"), ("dead replay stop", "dan"), ("dead replay ended", "ada (ops)")]
    );
    let unknown = runs::get(&mut backend, &RunName::random(), &MerchantScope::all()).await.unwrap_err();
    assert!(matches!(unknown, RunError::UnknownRun) && unknown.remedy().is_some());
    running.shut_down().await;
}

/// The environment variables of [`a_process_of_its_own`].
const URL: &str = "RUNS_TEST_REDIS_URL";
const NAMESPACE: &str = "RUNS_TEST_NAMESPACE";

/// Not a test: a process that starts a run, to be killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
async fn a_process_of_its_own() {
    let (Ok(url), Ok(namespace)) = (std::env::var(URL), std::env::var(NAMESPACE)) else { return };
    let mut config = Config::default();
    config.redis.url = vec![SecretString::from(url)];
    config.redis.namespace = namespace;
    let config = Arc::new(config);
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let running = Runs::new(Arc::clone(&config));
    running.start(&mut backend, &actor(), named("night", Work::Replay(replay("200/s")))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_rest_is_replayed_and_nothing_twice() {
    const JOBS: u64 = 600;
    let mut rig = Setup::default().start().await;
    let config = config(&rig);
    write_many(&mut rig, "job", 600).await;
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let running = Runs::new(Arc::clone(&config));
    let url = rig.redis.url_as("operator");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "operations_runs::a_process_of_its_own"])
        .env(URL, url)
        .env(NAMESPACE, &rig.config.redis.namespace)
        .spawn()
        .unwrap();
    rig.eventually("some have moved", async |rig| length(rig, "dead").await < JOBS - 250).await;
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let name = RunName::from_key("night");
    // Written after it began: not part of it.
    write_many(&mut rig, "later", 3).await;
    let interrupted = until(&mut rig, &mut backend, &name, |report| report.state == RunState::Interrupted).await;
    let count = replayed(&interrupted);
    assert!(count > 0 && count < JOBS, "{interrupted:?}");

    // The same key with another request is refused; with the same one it goes on.
    let other = running.start(&mut backend, &actor(), named("night", Work::Replay(replay("9/s")))).await;
    assert!(matches!(other, Err(RunError::NameTaken)));
    let request = named("night", Work::Replay(replay("200/s")));
    let second = Actor::new("dan", "console at gw-2");
    let continued = running.start(&mut backend, &second, request.clone()).await.unwrap();
    assert_eq!((continued.state, continued.of, continued.by.as_str()), (RunState::Running, JOBS, "ada (ops)"));
    let done =
        until(&mut rig, &mut backend, &name, |report| report.state == RunState::Done && outstanding(report) == 0).await;
    // Exactly, although the last second before the kill was never reported.
    assert_eq!((replayed(&done), length(&mut rig, "dead").await), (JOBS, 3), "{done:?}");
    assert_eq!(running.start(&mut backend, &second, request).await.unwrap(), done);
    rig.follow(30, |completions| completions.len() >= 600).await;
    let ids: BTreeSet<_> = rig.completions.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), rig.completions.len()), (600, 600));
    let recorded = audit(&mut rig).await;
    assert!(recorded.iter().any(|entry| entry["who"] == "dan" && entry["what"].contains(r#""continued":true"#)));
    running.shut_down().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_shuts_down_gives_its_runs_back_at_once() {
    let mut rig = Setup::default().without_worker().await;
    let config = config(&rig);
    write_many(&mut rig, "job", 40).await;
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let first = Runs::new(Arc::clone(&config));
    let work = Work::Replay(replay("20/s"));
    let begun = first.start(&mut backend, &actor(), named("k", work.clone())).await.unwrap();
    let name = name_of(&begun);
    until(&mut rig, &mut backend, &name, |report| replayed(report) > 0).await;
    first.shut_down().await;
    let given_back = runs::get(&mut backend, &name, &MerchantScope::all()).await.unwrap();
    assert_eq!(given_back.state, RunState::Interrupted);
    assert!(given_back.problem.is_some());
    let second = Runs::new(Arc::clone(&config));
    // By its name alone, as from its page.
    let rest = StartRequest { name: Some(name.clone()), ..start(Work::Rest(RunKind::Replay)) };
    second.start(&mut backend, &actor(), rest).await.unwrap();
    let done = until(&mut rig, &mut backend, &name, |report| report.state == RunState::Done).await;
    assert_eq!((replayed(&done), done.problem), (40, None));
    assert_eq!((length(&mut rig, "dead").await, length(&mut rig, "due:bulk").await), (0, 40));
    second.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_run_is_refused_until_one_has_ended() {
    let mut rig = Setup::default().without_worker().await;
    let config = config(&rig);
    write_many(&mut rig, "job", 10).await;
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let running = Runs::new(Arc::clone(&config));
    let work = || Work::Replay(replay("1/m"));
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(name_of(&running.start(&mut backend, &actor(), start(work())).await.unwrap()));
    }
    let fifth = running.start(&mut backend, &actor(), start(work())).await;
    assert!(matches!(fifth, Err(RunError::TooManyRuns)));
    // Nothing of it is left.
    assert_eq!(runs::list(&mut backend, None, &MerchantScope::all(), 10).await.unwrap().len(), 4);
    runs::stop(&mut backend, &actor(), &names[0], &MerchantScope::all()).await.unwrap();
    until(&mut rig, &mut backend, &names[0], |report| report.state == RunState::Stopped).await;
    running.start(&mut backend, &actor(), start(work())).await.unwrap();
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_fits_nothing_any_more_is_out_of_date() {
    let mut rig = Setup::default().without_worker().await;
    let config = config(&rig);
    write_many(&mut rig, "job", 3).await;
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let running = Runs::new(Arc::clone(&config));
    let discard = runs::plan_discard(&mut backend, Filter::default()).await.unwrap();
    let replayed_plan = runs::plan_replay(&mut backend, &config, replay("50/s")).await.unwrap();
    let plan = |id: &str, kind| start(Work::Plan { id: id.to_owned(), kind });
    // Not what it is a plan of, and not what was planned.
    for (id, kind) in [(discard.id.as_str(), RunKind::Replay), ("p1.x", RunKind::Replay), ("", RunKind::Discard)] {
        let started = running.start(&mut backend, &actor(), plan(id, kind)).await;
        assert!(matches!(started, Err(RunError::PlanOutdated)), "{id}");
    }
    // What is kept under the id of another plan is none.
    let other = runs::plan_replay(&mut backend, &config, replay("1000/s")).await.unwrap();
    let (from, to) = (rig.key(&format!("plan:{}", other.id)), rig.key(&format!("plan:{}", replayed_plan.id)));
    let kept: String = rig.connection.get(&to).await.unwrap();
    let forged: String = rig.connection.get(&from).await.unwrap();
    let _: () = rig.connection.set(&to, forged).await.unwrap();
    let started = running.start(&mut backend, &actor(), plan(&replayed_plan.id, RunKind::Replay)).await;
    assert!(matches!(started, Err(RunError::PlanOutdated)));
    let _: () = rig.connection.set(&to, kept).await.unwrap();

    let report = running.start(&mut backend, &actor(), plan(&discard.id, RunKind::Discard)).await.unwrap();
    let done = until(&mut rig, &mut backend, &name_of(&report), |report| report.state == RunState::Done).await;
    assert_eq!(done.counts, RunCounts::Discard { discarded: 3 });
    let started = running.start(&mut backend, &actor(), plan(&replayed_plan.id, RunKind::Replay)).await;
    assert!(matches!(started, Err(RunError::PlanOutdated)));
    let nothing = running.start(&mut backend, &actor(), start(Work::Discard(Filter::default()))).await;
    assert!(matches!(nothing, Err(RunError::Operation(Error::NoDeadLetter))));
    let life: i64 = rig.connection.ttl(&from).await.unwrap();
    assert!((1..=600).contains(&life), "{life}");
    let recorded = audit(&mut rig).await;
    let actions: Vec<_> = recorded.iter().map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["dead discard", "dead discard ended"]);
    running.shut_down().await;
}

fn merchants(rig: &Rig, id: &str) -> MerchantScope {
    // A merchant's id is read from a configuration.
    let text = format!("[xco]\nmerchant_id = \"{id}\"");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("merchant.toml");
    std::fs::write(&file, text).unwrap();
    let sources = xco_worker::config::Sources { file: Some(file), ..Default::default() };
    let id: MerchantId = xco_worker::config::load(&sources).unwrap().xco.merchant_id.unwrap();
    MerchantScope::only([&id], rig.config.xco.merchant_id.as_ref())
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_is_restricted_to_merchants_touches_their_letters_alone() {
    let mut rig = Setup::default().without_worker().await;
    let config = config(&rig);
    write(&mut rig, &with(check("one", "c"), "merchant_id", ONE), "upstream", "").await;
    write(&mut rig, &with(check("two", "c"), "merchant_id", TWO), "upstream", "").await;
    write(&mut rig, &check("unnamed", "c"), "upstream", "").await;
    let child = json!({"absent": with(check("child", "c"), "merchant_id", TWO)});
    write(&mut rig, &with(with(check("mixed", "c"), "merchant_id", ONE), "next", child), "upstream", "").await;
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    let running = Runs::new(Arc::clone(&config));
    let (one, two) = (merchants(&rig, ONE), merchants(&rig, TWO));
    let of_one = Filter { merchants: one.clone(), ..Filter::default() };

    let list = ListRequest { filter: of_one.clone(), limit: 10, after: None };
    let listed = dead_letters::list(&mut backend, &list).await.unwrap();
    assert_eq!(listed.dead_letters.iter().map(|letter| letter.id.as_str()).collect::<Vec<_>>(), ["one"]);
    let groups = dead_letters::group(&mut backend, &of_one, Vec::new(), 10).await.unwrap();
    assert_eq!(groups.total, 1);

    // An edit moves no job to another merchant.
    let edit = Assignment::new("/merchant_id", &json!(TWO)).unwrap();
    let changes = Changes { set: vec![edit], ..Changes::default() };
    let edited = ReplayRequest { filter: of_one.clone(), changes, ..replay("50/s") };
    let planned = runs::plan_replay(&mut backend, &config, edited).await.unwrap();
    assert_eq!((planned.estimate.replay, planned.estimate.refused), (0, 1));
    assert!(planned.estimate.invalid_at.contains_key("/merchant_id"));

    // A plan of everything cannot be started by somebody who is restricted.
    let all = runs::plan_replay(&mut backend, &config, replay("50/s")).await.unwrap();
    assert_eq!(all.estimate.replay, 4);
    let work = Work::Plan { id: all.id, kind: RunKind::Replay };
    let restricted = StartRequest { merchants: one.clone(), ..start(work) };
    let started = running.start(&mut backend, &actor(), restricted).await;
    assert!(matches!(started, Err(RunError::PlanOutdated)));

    // A request without merchants is narrowed to theirs.
    let request = StartRequest { merchants: one.clone(), ..named("mine", Work::Replay(replay("50/s"))) };
    let begun = running.start(&mut backend, &actor(), request).await.unwrap();
    assert_eq!((begun.of, &begun.filter["merchants"]), (1, &json!([ONE])));
    let name = name_of(&begun);
    until(&mut rig, &mut backend, &name, |report| report.state == RunState::Done).await;
    assert_eq!(length(&mut rig, "dead").await, 3);
    // Others do not see it, and cannot stop it or use its name.
    assert!(runs::get(&mut backend, &name, &one).await.is_ok());
    assert!(matches!(runs::get(&mut backend, &name, &two).await, Err(RunError::UnknownRun)));
    assert!(matches!(runs::stop(&mut backend, &actor(), &name, &two).await, Err(RunError::UnknownRun)));
    assert!(runs::list(&mut backend, None, &two, 10).await.unwrap().is_empty());
    assert_eq!(runs::list(&mut backend, None, &one, 10).await.unwrap().len(), 1);
    let taken = StartRequest { merchants: two, ..named("mine", Work::Replay(replay("50/s"))) };
    assert!(matches!(running.start(&mut backend, &actor(), taken).await, Err(RunError::NameTaken)));
    running.shut_down().await;
}
