//! `erase`: what Redis holds about one customer.

use super::{
    commands::{json_lines, pointed},
    support::{Rig, Setup, create, in_time, with},
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::time::Duration;
use xco_worker::{
    operations::{
        Actor, Backend, NoProgress,
        erase::{self, CustomerToErase, EraseCounts},
    },
    sandbox::Fault,
};

const EMAIL: &str = "ada@example.com";

fn ada() -> CustomerToErase {
    CustomerToErase {
        reference: Some("ref-ada".to_owned()),
        email: Some("Ada@Example.com".to_owned()),
        ..CustomerToErase::default()
    }
}

/// Everything that Redis holds in this namespace, as text.
async fn everything(rig: &mut Rig) -> String {
    let keys: Vec<String> = rig.connection.keys(rig.key("*")).await.unwrap();
    let mut text = keys.join("\n");
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut rig.connection).await.unwrap();
        let read = match kind.as_str() {
            "stream" => redis::cmd("XRANGE").arg(&key).arg("-").arg("+").to_owned(),
            "hash" => redis::cmd("HGETALL").arg(&key).to_owned(),
            "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).to_owned(),
            "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).to_owned(),
            "set" => redis::cmd("SMEMBERS").arg(&key).to_owned(),
            _ => continue,
        };
        let value: redis::Value = read.query_async(&mut rig.connection).await.unwrap();
        text.push_str(&flat(&value));
    }
    text
}

fn flat(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => format!("{}\n", String::from_utf8_lossy(bytes)),
        redis::Value::Array(items) | redis::Value::Set(items) => items.iter().map(flat).collect(),
        redis::Value::Map(pairs) => pairs.iter().map(|(key, value)| flat(key) + &flat(value)).collect(),
        _ => String::new(),
    }
}

/// Ada in every place, and Eve beside her: ended, dead, delayed, with a reply that nobody read.
async fn two_customers() -> Rig {
    let mut rig = Setup::default().start().await;
    for (name, email) in [("ada", EMAIL), ("eve", "eve@example.com")] {
        rig.complete(with(create(name, email), "reply", true)).await;
        rig.sandbox.order(Fault::status(400));
        let dead = json!({"id": format!("{name}-dead"), "type": "CheckUser", "caller_id": "192.0.2.7", "args": {"email": email}});
        let failed = rig.complete(with(dead, "meta", json!({"note": format!("of {name}")}))).await;
        assert_eq!(failed["dead_lettered"], true, "{failed:#}");
        let later = json!({"id": format!("{name}-later"), "type": "CheckUser", "caller_id": "192.0.2.7", "args": {"email": email},
            "run_at": in_time(Duration::from_secs(3600)), "meta": {"note": format!("of {name}")}});
        rig.enqueue(&later).await;
    }
    rig.eventually("they are delayed", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 2
    })
    .await;
    rig
}

/// How many jobs ended as cancelled.
async fn cancelled(rig: &mut Rig) -> u64 {
    rig.connection.hget(rig.key("stats"), "CheckUser:cancelled").await.unwrap()
}

/// Ends what a test left of Eve.
async fn end(mut rig: Rig) {
    let folder = tempfile::tempdir().unwrap();
    pointed(&folder, &rig).args(["cancel", "eve-later"]).assert().code(0);
    rig.completion("eve-later").await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_customer_is_erased_and_the_other_stays() {
    let mut rig = two_customers().await;
    let (config, redis) = (rig.config.clone(), rig.redis_as("operator"));
    let mut backend = Backend::connect(&redis).await.unwrap();
    let before = everything(&mut rig).await;
    let found = erase::find(&mut backend, &config, &ada(), &NoProgress).await.unwrap();
    // The completion of the dead letter names no contact: it is found by its id.
    let expected = EraseCounts { delayed: 1, completions: 2, replies: 1, dead_letters: 1, ..EraseCounts::default() };
    assert_eq!((found.found, found.erased.total(), found.complete), (expected, 0, false), "{found:?}");
    assert_eq!(everything(&mut rig).await.matches("ada").count(), before.matches("ada").count(), "nothing was changed");

    let actor = Actor::new("bob", "box");
    let done = erase::run(&mut backend, &actor, &config, &ada(), Duration::from_secs(20), &NoProgress).await.unwrap();
    let erased = EraseCounts { completions: 3, ..expected };
    assert_eq!((done.erased, done.complete, done.left.len()), (erased, true, 0), "{done:?}");
    assert_eq!(cancelled(&mut rig).await, 1, "it ended in one completion, which is deleted by now");

    let left = everything(&mut rig).await;
    for name in [EMAIL, "of ada"] {
        assert!(!left.contains(name), "{name} is left in {left}");
    }
    for name in ["eve@example.com", "of eve", "reply:eve", "ref-eve"] {
        assert!(left.contains(name), "{name} is gone");
    }
    let again = erase::find(&mut backend, &config, &ada(), &NoProgress).await.unwrap();
    assert_eq!(again.found.total(), 0, "{again:?}");
    // The audit names who did it, how much, and nobody else.
    let audit: redis::Value =
        redis::cmd("XRANGE").arg(rig.key("audit")).arg("-").arg("+").query_async(&mut rig.connection).await.unwrap();
    let audit = flat(&audit);
    assert!(audit.contains("erase ended") && audit.contains("bob") && audit.contains("customer_reference"), "{audit}");
    assert!(!audit.contains("ref-ada") && !audit.to_lowercase().contains(EMAIL), "{audit}");
    end(rig).await;
}

/// Without a worker, nothing ends: the jobs are named, and a later run takes them up, whatever their completions hold.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_have_not_ended_are_left_to_a_later_run() {
    let mut rig = two_customers().await;
    let (config, redis) = (rig.config.clone(), rig.redis_as("operator"));
    rig.stop_workers().await;
    let waiting = json!({"id": "ada-waiting", "type": "CheckUser", "caller_id": "192.0.2.7", "args": {"email": EMAIL}, "meta": {"note": "of ada"}});
    rig.enqueue(&waiting).await;
    // No worker would take it, and no cancellation covers it.
    rig.enqueue(&json!({"id": "ada-wrong", "type": "Nothing", "args": {"email": EMAIL}})).await;
    let mut backend = Backend::connect(&redis).await.unwrap();
    let actor = Actor::new("bob", "box");
    let done = erase::run(&mut backend, &actor, &config, &ada(), Duration::from_secs(20), &NoProgress).await.unwrap();
    assert_eq!((done.found.waiting, done.found.delayed, done.complete), (2, 1, false), "{done:?}");
    assert_eq!(done.left, ["ada-later", "ada-waiting", "ada-wrong"]);
    assert_eq!((done.erased.waiting, done.erased.delayed, done.erased.completions), (0, 0, 2), "{done:?}");

    rig.start_worker();
    for (id, status) in [("ada-later", "cancelled"), ("ada-waiting", "cancelled"), ("ada-wrong", "rejected")] {
        assert_eq!(rig.completion(id).await["status"], status, "{id}");
    }
    assert!(
        everything(&mut rig).await.contains("of ada"),
        "their completions have no contact, but are about the customer"
    );
    let named = CustomerToErase { jobs: done.left.into_iter().collect(), ..ada() };
    let done = erase::run(&mut backend, &actor, &config, &named, Duration::from_secs(20), &NoProgress).await.unwrap();
    assert_eq!((done.erased.completions, done.erased.dead_letters, done.complete), (3, 1, true), "{done:?}");
    let left = everything(&mut rig).await;
    assert!(!left.contains(EMAIL) && !left.contains("of ada"), "{left}");
    end(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_counts_asks_and_says_what_remains() {
    let mut rig = two_customers().await;
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| pointed(&folder, &rig).arg("erase").args(args).assert();
    run(&[]).code(2);
    run(&["--email", "nobody@example.com"]).code(1).stderr(contains("nothing fits"));
    let nobody =
        json_lines(&run(&["--email", "nobody@example.com", "--dry-run", "--json"]).code(1).get_output().stdout);
    assert_eq!((&nobody[0]["found"]["completions"], &nobody[0]["remains"]), (&json!(0), &json!([])));
    run(&["--email", EMAIL]).code(2).stderr(contains("--yes"));
    run(&["--email", EMAIL, "--dry-run"])
        .code(0)
        .stdout(contains("1 delayed job").and(contains("nothing was changed")).and(contains("example.com").not()));
    let report = json_lines(
        &run(&["--customer-reference", "ref-ada", "--email", EMAIL, "--yes", "--json"]).code(0).get_output().stdout,
    );
    let report: &Value = &report[0];
    assert_eq!(
        (&report["complete"], &report["erased"]["dead_letters"], &report["left"]),
        (&json!(true), &json!(1), &json!([]))
    );
    let remains = report["remains"].to_string();
    assert!(remains.contains("append-only file") && remains.contains("backups"), "{remains}");
    run(&["--email", EMAIL, "--yes"]).code(1).stderr(contains("nothing fits"));
    assert_eq!(cancelled(&mut rig).await, 1);
    assert!(!everything(&mut rig).await.contains(EMAIL));
    end(rig).await;
}
