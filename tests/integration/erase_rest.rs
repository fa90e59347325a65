//! `erase`: what plans and runs of replays, and backfills hold of a customer.

use super::{
    backfill::{backfill, plain, summary},
    commands::{json_lines, pointed},
    dead_replay::write,
    support::{Rig, Setup, check},
};
use predicates::str::contains;
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{fs, sync::Arc, time::Duration};
use xco_worker::{
    config::{Config, parse_rate},
    operations::{
        Actor, Backend, MerchantScope, NoProgress,
        dead_letters::{
            Changes, Filter,
            replay::ReplayRequest,
            runs::{self, RunName, RunState, Runs, StartRequest, Work},
        },
        erase::{self, CustomerToErase},
    },
};

const EMAIL: &str = "ada@example.com";

fn ada() -> CustomerToErase {
    CustomerToErase { email: Some(EMAIL.to_owned()), ..CustomerToErase::default() }
}

fn replay(filter: Filter, changes: Changes) -> ReplayRequest {
    let rate = parse_rate("1/m").unwrap();
    ReplayRequest { filter, changes, send_codes: false, accept_doubt: false, rate, limit: None }
}

/// Whether Redis holds the address in a plan or in a run.
async fn is_kept(rig: &mut Rig) -> bool {
    let plans: Vec<String> = rig.connection.keys(rig.key("plan:*")).await.unwrap();
    let runs: Vec<String> = rig.connection.keys(rig.key("run:*")).await.unwrap();
    let mut texts = Vec::new();
    for plan in plans {
        texts.push(rig.connection.get::<_, String>(plan).await.unwrap());
    }
    for run in runs {
        texts.push(rig.connection.hget::<_, _, Option<String>>(run, "request").await.unwrap().unwrap_or_default());
    }
    texts.iter().any(|text| text.contains(EMAIL))
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_runs_that_name_a_customer_are_erased_or_named() {
    let mut rig = Setup::default().without_worker().await;
    let config = Arc::new(Config { redis: rig.redis_as("operator"), ..rig.config.clone() });
    let mut backend = Backend::connect(&config.redis).await.unwrap();
    for name in ["eve-1", "eve-2"] {
        write(&mut rig, &check(name, name), "upstream", "").await;
    }
    let by_text = Filter { text: Some(EMAIL.to_owned()), ..Filter::default() };
    runs::plan_replay(&mut backend, &config, replay(by_text, Changes::default())).await.unwrap();
    let of_eve = Filter { text: Some("eve@example.com".to_owned()), ..Filter::default() };
    runs::plan_replay(&mut backend, &config, replay(of_eve, Changes::default())).await.unwrap();
    let found = erase::find(&mut backend, &config, &ada(), &NoProgress).await.unwrap();
    assert_eq!((found.found.replays, found.found.total(), found.erased.replays), (1, 1, 0), "{found:?}");
    assert!(is_kept(&mut rig).await, "nothing was changed");
    let bob = Actor::new("bob", "box");
    let done = erase::run(&mut backend, &bob, &config, &ada(), Duration::ZERO, &NoProgress).await.unwrap();
    assert_eq!((done.erased.replays, done.complete), (1, true), "{done:?}");
    assert!(!is_kept(&mut rig).await);
    let plans: Vec<String> = rig.connection.keys(rig.key("plan:*")).await.unwrap();
    assert_eq!(plans.len(), 1, "Eve's plan stays");

    // The second job waits for a minute: the run goes on.
    let edit = Changes { set: vec!["/args/email=ada@example.com".parse().unwrap()], ..Changes::default() };
    let process = Runs::new(Arc::clone(&config));
    let work = Work::Replay(replay(Filter::default(), edit));
    let name = RunName::from_key("edited");
    let request = StartRequest { work, name: Some(name.clone()), merchants: MerchantScope::all() };
    process.start(&mut backend, &Actor::new("ada", "box"), request).await.unwrap();
    let refused = erase::run(&mut backend, &bob, &config, &ada(), Duration::ZERO, &NoProgress).await.unwrap();
    assert_eq!((refused.found.replays, refused.erased.replays, refused.complete), (1, 0, false), "{refused:?}");
    let said = refused.remains.iter().find(|text| text.contains("r-edited")).unwrap();
    assert!(said.contains("stop it"), "{said}");
    assert!(is_kept(&mut rig).await);

    process.shut_down().await;
    let state = runs::get(&mut backend, &name, &MerchantScope::all()).await.unwrap().state;
    assert_eq!(state, RunState::Interrupted);
    let done = erase::run(&mut backend, &bob, &config, &ada(), Duration::ZERO, &NoProgress).await.unwrap();
    assert_eq!((done.found.replays, done.erased.replays), (1, 1), "{done:?}");
    assert!(!is_kept(&mut rig).await);
    let run = runs::get(&mut backend, &name, &MerchantScope::all()).await.unwrap();
    assert_eq!((run.state, run.stopped_by.as_deref()), (RunState::Stopped, Some("bob")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_erased_from_the_fingerprints_of_backfills() {
    let rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.csv"), plain(3)).unwrap();
    let run = |batch: &str| {
        let args = ["c.csv", "--batch", batch, "--json"];
        summary(&backfill(&folder, &rig, &args).assert().code(0).get_output().stdout)
    };
    assert_eq!(run("a")["outcomes"], json!({"created": 3}));
    let erase = |args: &[&str]| {
        let args = [&["erase", "--json"], args].concat();
        pointed(&folder, &rig).args(args).assert()
    };
    let by_one: Value = json_lines(&erase(&["--email", "c2@example.com", "--dry-run"]).get_output().stdout)[0].clone();
    assert_eq!(by_one["found"]["fingerprints"], 0, "{by_one:#}");
    assert!(by_one["remains"].to_string().contains("reference and email together"), "{by_one:#}");
    let both = ["--customer-reference", "c2", "--email", "C2@example.com"];
    let found = json_lines(&erase(&[&both[..], &["--dry-run"]].concat()).code(0).get_output().stdout)[0].clone();
    assert_eq!((&found["found"]["fingerprints"], &found["erased"]["fingerprints"]), (&json!(1), &json!(0)));
    let done = json_lines(&erase(&[&both[..], &["--yes"]].concat()).code(0).get_output().stdout)[0].clone();
    assert_eq!((&done["erased"]["fingerprints"], &done["complete"]), (&json!(1), &json!(true)), "{done:#}");
    pointed(&folder, &rig).arg("erase").args(both).arg("--yes").assert().code(1).stderr(contains("nothing fits"));
    // The others are still known, and the batch is still compared.
    let later = run("b");
    assert_eq!(later["outcomes"], json!({"created_before": 2, "needs_consent": 1}), "{later:#}");
    assert!(later.get("not_compared").is_none(), "{later:#}");
    // No entry of another batch passes for the erased one.
    let done = json_lines(&erase(&[&both[..], &["--yes"]].concat()).code(0).get_output().stdout)[0].clone();
    assert_eq!(done["erased"]["fingerprints"], 1, "{done:#}");
    assert_eq!(run("b")["outcomes"], json!({"created_before": 2, "needs_consent": 1}));
}
