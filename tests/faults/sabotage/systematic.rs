//! Every script, with each of its commands failing in turn.
//!
//! A failed run may leave each job as it was before, or as it is when nothing fails, and in no state in between. Called
//! again without sabotage, as its caller does, the script must bring everything to the state in which nothing failed.

use super::{
    Noted, Refusal, Sabotage, noted,
    scenes::{Facts, SCRIPTS, Scene, Snapshot, Stage},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::{Path, PathBuf},
};

/// Number of seeds for each script. `SABOTAGE_SEEDS` changes it.
const SEEDS: u64 = 4;
/// Number of calls after which the caller counts as stuck.
const MOST_CALLS: u32 = 20;
/// Number of failures of one kind that are reported in full.
const TOLD: usize = 3;

/// A violation of the rules.
#[derive(Debug)]
struct Failure {
    seed: u64,
    sabotage: String,
    refused: Option<Noted>,
    when: &'static str,
    what: String,
}

/// The facts around one run.
struct Run {
    before: Facts,
    /// After the first call.
    halfway: Facts,
    /// Error of the first call, if it failed.
    error: Option<String>,
    after: Facts,
    /// Commands recorded in the first call.
    noted: Vec<Noted>,
    calls: u32,
}

async fn look<S: Scene>(scene: &S, stage: &Stage) -> Facts {
    let snapshot = Snapshot::take(stage).await;
    let mut facts = Facts::of(&snapshot, scene.jobs());
    scene.more_facts(&snapshot, &mut facts);
    facts
}

/// One run from the same start: the first call (or the first two) with sabotage, then calls without it until the caller
/// considers it done.
async fn run<S: Scene>(stage: &mut Stage, seed: u64, sabotage: Option<&Sabotage>, sabotaged_calls: u32) -> Run {
    stage.clear(seed).await;
    let mut scene = S::prepare(stage).await;
    let before = look(&scene, stage).await;
    let mut link = stage.link();
    let (mut calls, mut error, mut halfway, mut log) = (0, None, None, Vec::new());
    loop {
        if let Some(sabotage) = sabotage.filter(|_| calls < sabotaged_calls) {
            stage.proxy.set(sabotage.clone());
        }
        let called = scene.call(stage, &mut link).await;
        stage.proxy.calm();
        calls += 1;
        if halfway.is_none() {
            halfway = Some(look(&scene, stage).await);
            log = noted(&mut stage.connection).await;
            error = called.as_ref().err().cloned();
        }
        if calls >= MOST_CALLS || called == Ok(true) {
            break;
        }
    }
    let after = look(&scene, stage).await;
    Run { before, halfway: halfway.unwrap(), error, after, noted: log, calls }
}

/// Facts that are neither as before nor as after.
fn half_done<S: Scene>(run: &Run, calm: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut none, mut all) = (true, true);
    for (job, found) in run.halfway.0.iter().filter(|(job, _)| !job.is_empty()) {
        let differing = |other: &Facts| -> Vec<String> {
            let facts = found.iter().filter(|(name, _)| !S::may_run_ahead(name) && !S::may_be_lost(name));
            facts
                .filter(|(name, value)| other.get(job, name) != value.as_str())
                .map(|(name, value)| format!("{name}: {value:?}, not {:?}", other.get(job, name)))
                .collect()
        };
        let (as_before, as_after) = (differing(&run.before), differing(calm));
        none &= as_before.is_empty();
        all &= as_after.is_empty();
        if !as_before.is_empty() && !as_after.is_empty() {
            let nearest = if as_before.len() < as_after.len() { as_before } else { as_after };
            wrong.push(format!("{job} is half done: {}", nearest.join("; ")));
        }
    }
    // Totals must match the result of each job.
    let has_jobs = run.halfway.0.len() > 1;
    let whole = |facts: &Facts| -> BTreeMap<String, String> {
        let whole = facts.0.get("").cloned().unwrap_or_default();
        whole.into_iter().filter(|(name, _)| !S::may_run_ahead(name) && !S::may_be_lost(name)).collect()
    };
    let (found, before, after) = (whole(&run.halfway), whole(&run.before), whole(calm));
    let fits = match (has_jobs, none, all) {
        (true, true, false) => found == before,
        (true, false, true) => found == after,
        (true, false, false) => true,
        _ => found == before || found == after,
    };
    if !fits {
        wrong.push(format!("all together: {}", differences(&found, if none { &before } else { &after })));
    }
    wrong
}

fn differences(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) -> String {
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let text = |facts: &BTreeMap<String, String>, name: &String| facts.get(name).cloned().unwrap_or_default();
    let differing = names.into_iter().filter(|name| text(found, name) != text(expected, name));
    let told: Vec<String> =
        differing.map(|name| format!("{name}: {:?}, not {:?}", text(found, name), text(expected, name))).collect();
    told.join("; ")
}

/// Facts that differ at the end from a run without failures.
fn not_done<S: Scene>(run: &Run, calm: &Facts) -> Vec<String> {
    let jobs: BTreeSet<&String> = run.after.0.keys().chain(calm.0.keys()).collect();
    let nothing = BTreeMap::new();
    jobs.into_iter()
        .filter_map(|job| {
            let lasting = |facts: &Facts| -> BTreeMap<String, String> {
                let facts = facts.0.get(job).unwrap_or(&nothing).iter();
                facts
                    .filter(|(name, _)| !S::may_be_lost(name))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            };
            let told = differences(&lasting(&run.after), &lasting(calm));
            let name = if job.is_empty() { "all together" } else { job };
            (!told.is_empty()).then(|| format!("{name}: {told}"))
        })
        .collect()
}

/// Every way to sabotage a script that makes these writes, with the number of sabotaged calls.
fn ways(seed: u64, writes: &[Noted]) -> Vec<(Sabotage, u32)> {
    let mut ways = Vec::new();
    // A call may run its script several times.
    for k in 1..=writes.iter().map(|write| write.k).max().unwrap_or(0) {
        let refusal = Refusal::ALL[usize::try_from(seed + u64::from(k)).unwrap() % Refusal::ALL.len()];
        ways.extend([false, true].map(|again| (Sabotage::Kth { k, refusal, again }, 1)));
    }
    let commands: BTreeSet<&String> = writes.iter().map(|write| &write.command).collect();
    ways.extend(commands.into_iter().map(|command| (Sabotage::Forbid(command.clone()), 2)));
    let keys: BTreeSet<&String> = writes.iter().map(|write| &write.key).collect();
    ways.extend(keys.into_iter().map(|key| (Sabotage::WrongKey(key.clone()), 2)));
    ways
}

/// Runs a script's scene from several seeds, with every kind of sabotage.
pub(crate) async fn play<S: Scene>(script: &str) {
    let seeds: u64 = std::env::var("SABOTAGE_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let mut stage = Stage::new().await;
    let (mut failures, mut runs) = (Vec::new(), 0);
    for seed in 1..=seeds {
        let calm = run::<S>(&mut stage, seed, None, 0).await;
        stage.clear(seed).await;
        S::prepare(&mut stage).await.check(&calm.after);
        // The prefix alone must change nothing.
        let traced = run::<S>(&mut stage, seed, Some(&Sabotage::Trace), 1).await;
        assert_eq!(traced.error, None, "{script}: seed {seed}");
        assert_eq!(
            not_done::<S>(&traced, &calm.after),
            Vec::<String>::new(),
            "{script}: seed {seed}: not the same twice"
        );
        let writes: Vec<Noted> = traced.noted.into_iter().filter(|noted| noted.script == script).collect();
        assert!(!writes.is_empty(), "{script}: it was not run, or writes nothing");
        for (sabotage, sabotaged_calls) in ways(seed, &writes) {
            let sabotaged = run::<S>(&mut stage, seed, Some(&sabotage), sabotaged_calls).await;
            runs += 1;
            let refused = sabotaged.noted.iter().any(|noted| noted.script == script);
            assert!(
                refused || matches!(sabotage, Sabotage::WrongKey(_)),
                "{script}: nothing was refused: {sabotage:?}"
            );
            let failure = |when, what| Failure {
                seed,
                sabotage: reported(&sabotage),
                refused: sabotaged.noted.first().cloned(),
                when,
                what,
            };
            if !S::RESUMES {
                failures
                    .extend(half_done::<S>(&sabotaged, &calm.after).into_iter().map(|what| failure("at once", what)));
            }
            if sabotaged.calls >= MOST_CALLS {
                failures.push(failure("later", "the caller is never done".to_owned()));
            }
            failures.extend(not_done::<S>(&sabotaged, &calm.after).into_iter().map(|what| failure("later", what)));
        }
    }
    assert!(failures.is_empty(), "{}", report(script, runs, &failures));
}

fn reported(sabotage: &Sabotage) -> String {
    match sabotage {
        Sabotage::Kth { k, refusal, again } => {
            format!("k={k} {refusal:?}{}", if *again { ", again and again" } else { "" })
        }
        Sabotage::Forbid(command) => format!("{} is forbidden", command.to_uppercase()),
        Sabotage::WrongKey(key) => format!("{key} is of a wrong type"),
        other => format!("{other:?}"),
    }
}

/// The failures by refused command and key, the first few of each in full.
fn report(script: &str, runs: usize, failures: &[Failure]) -> String {
    let mut kinds: BTreeMap<String, Vec<&Failure>> = BTreeMap::new();
    for failure in failures {
        let refused = failure.refused.as_ref().map_or_else(
            || "nothing refused".to_owned(),
            |noted| format!("{} {}", noted.command.to_uppercase(), generic(&noted.key)),
        );
        kinds.entry(refused).or_default().push(failure);
    }
    let mut text = format!("{script}: {} failures in {runs} runs\n", failures.len());
    for (refused, failures) in kinds {
        let _ = writeln!(text, "{refused} refused: {} failures", failures.len());
        for Failure { seed, sabotage, refused, when, what } in failures.iter().take(TOLD) {
            let k = refused.as_ref().map_or(0, |noted| noted.k);
            let _ = writeln!(text, "    seed {seed}, command {k}, {sabotage}, {when}: {what}");
        }
    }
    text
}

/// A key without the part that names one job.
fn generic(key: &str) -> String {
    let rest = key.split_once("}:").map_or(key, |(_, rest)| rest);
    match rest.split_once(':') {
        Some((kind @ ("id" | "reply" | "batch" | "limit" | "held" | "replay" | "backfill"), _)) => format!("{kind}:…"),
        _ => rest.to_owned(),
    }
}

fn texts(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "lua") {
            into.push(path);
        }
    }
}

/// Commands that a script may name and that write.
const WRITES: &[&str] = &[
    "APPEND",
    "DECRBY",
    "DEL",
    "EXPIRE",
    "EXPIREAT",
    "HDEL",
    "HINCRBY",
    "HMSET",
    "HSET",
    "HSETNX",
    "INCR",
    "INCRBY",
    "LPOP",
    "LPUSH",
    "LREM",
    "LTRIM",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "RENAME",
    "RPOP",
    "RPUSH",
    "SADD",
    "SET",
    "SETBIT",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "SMOVE",
    "SPOP",
    "SREM",
    "UNLINK",
    "XACK",
    "XADD",
    "XAUTOCLAIM",
    "XCLAIM",
    "XDEL",
    "XGROUP",
    "XREADGROUP",
    "XSETID",
    "XTRIM",
    "ZADD",
    "ZINCRBY",
    "ZPOPMIN",
    "ZREM",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
];

/// A file that declares which keys it uses is a script, and not a part of others.
#[test]
fn every_script_that_writes_has_a_scene() {
    let mut files = Vec::new();
    texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/queue/lua"), &mut files);
    assert!(files.len() > 10, "{files:?}");
    let mut without = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let named =
            |command: &&&str| text.contains(&format!("'{command}'")) || text.contains(&format!("\"{command}\""));
        let writes: Vec<_> = WRITES.iter().filter(named).collect();
        let name = super::proxy::name_of(&text);
        if text.contains("\n-- KEYS ") && !writes.is_empty() && !SCRIPTS.contains(&name.as_str()) {
            without.push(format!("{}: {writes:?}", file.display()));
        }
    }
    assert!(without.is_empty(), "write a scene for each of these: {without:#?}");
}
