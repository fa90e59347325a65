//! `deploy/redis/users.acl`, the check before work and the code name the same commands: every needed command is
//! checked, and every permitted one is needed.

use super::support::{RedisServer, Setup};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Commands that contain subcommands.
const CONTAINERS: [&str; 4] = ["xgroup", "xinfo", "memory", "script"];

/// Commands that every connection needs, as at the start of each user's line.
const CONNECTION: &str = "resetchannels -@all +@connection -@admin -@dangerous +client|id +client|getname +client|setname \
                          +select +ping";

/// Commands that a worker needs and no script can test: those of the check itself, and those it sends outside its
/// script.
const OUTSIDE_THE_SCRIPT: [&str; 4] = ["evalsha", "script|load", "info", "wait"];

/// Commands for Sentinels, and for the server that they name: `sentinel.rs`.
const OF_SENTINELS: [&str; 2] = ["role", "sentinel"];

/// Commands of `src/queue` for other users than the worker: file, command, user.
const OTHERS: [(&str, &str, &str); 6] = [
    ("backfill.rs", "hexists", "operator: backfill list"),
    ("backfill.rs", "xgroup|destroy", "operator: a backfill's own group"),
    ("backfill.rs", "xgroup|setid", "operator: a backfill's own group"),
    ("batches.rs", "scan", "operator: a list of batches"),
    ("rule_set.lua", "hexists", "operator: pause, cancel"),
    ("rule_drop.lua", "hexists", "operator: resume"),
];

/// Quoted words of a script, without its comments.
fn quoted(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    lines.flat_map(|line| line.split('\'').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A command in the form of an ACL rule: with its subcommand if it has one.
fn rule(name: &str, next: Option<&String>) -> String {
    let name = name.to_lowercase();
    match next {
        Some(next) if CONTAINERS.contains(&name.as_str()) => format!("{name}|{}", next.to_lowercase()),
        _ => name,
    }
}

/// The commands that a script names: called, tried or undone.
fn in_lua(text: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let words = quoted(text);
    let is_command = |word: &str| word.chars().all(|c| c.is_ascii_uppercase()) && known.contains(&word.to_lowercase());
    let pairs = words.iter().enumerate().filter(|(_, word)| is_command(word));
    pairs.map(|(at, word)| rule(word, words.get(at + 1))).collect()
}

/// The commands that Rust code sends: `cmd("NAME")`, alone or in a pipeline.
fn in_rust(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.split("cmd(\"")
        .skip(1)
        .map(|rest| {
            let name = rest.split('"').next().unwrap_or_default();
            let argument = rest.split(".arg(\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
            rule(name, argument.as_ref())
        })
        .collect()
}

fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let text: &mut String = found.entry(name).or_default();
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Every command that Redis knows.
async fn known() -> BTreeSet<String> {
    let mut rig = Setup { redis: RedisServer::own(&["--save", ""]), ..Setup::default() }.without_worker().await;
    let commands: Vec<Vec<redis::Value>> = redis::cmd("COMMAND").query_async(&mut rig.connection).await.unwrap();
    commands.into_iter().map(|facts| redis::from_redis_value(facts[0].clone()).unwrap()).collect()
}

/// The commands that the check before work tests, in the form of ACL rules.
pub(crate) fn self_test() -> BTreeSet<String> {
    let text = include_str!("../../src/queue/lua/preflight/preflight.lua");
    let tried = text.lines().filter_map(|line| line.split_once("try('")).map(|(_, rest)| {
        let mut words = rest.split('\'');
        let name = words.next().unwrap();
        rule(name, words.nth(1).map(str::to_owned).as_ref())
    });
    tried.chain(["evalsha", "script|load"].map(str::to_owned)).collect()
}

/// The commands that a user's line permits beyond a connection.
fn permitted(user: &str) -> BTreeSet<String> {
    let users = include_str!("../../deploy/redis/users.acl");
    let line = users.lines().find(|line| line.starts_with(&format!("user {user} "))).unwrap();
    let (_, rules) = line.split_once(CONNECTION).unwrap_or_else(|| panic!("{user} begins otherwise: {line}"));
    let rules: Vec<&str> = rules.split_whitespace().collect();
    let mut commands: BTreeSet<String> =
        rules.iter().map(|rule| rule.strip_prefix('+').unwrap_or_else(|| panic!("{rule}")).to_owned()).collect();
    assert_eq!(commands.len(), rules.len(), "{user}: named twice");
    commands.retain(|command| !OF_SENTINELS.contains(&command.as_str()));
    assert!(!commands.iter().any(|command| command.starts_with('@')), "{user}: no category is permitted whole");
    commands
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_a_worker_is_tried_before_work_and_no_other_is_permitted() {
    let known = known().await;
    let tried: BTreeSet<String> = self_test().into_iter().chain(OUTSIDE_THE_SCRIPT.map(str::to_owned)).collect();
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files("src/queue/lua", "lua") {
        let commands = in_lua(&text, &known);
        let has_none =
            ["bucket_peek.lua", "fields.lua", "order.lua", "strikes.lua", "turns.lua"].contains(&file.as_str());
        assert!(!commands.is_empty() || has_none, "{file}: no command is recognised");
        if file != "preflight.lua" {
            named.insert(file, commands);
        }
    }
    for folder in ["src/queue", "src/worker", "src/limits", "src/jobs"] {
        // Two folders may have a file of the same name.
        for (file, text) in files(folder, "rs") {
            named.entry(file).or_default().extend(in_rust(&text));
        }
    }
    if let Some(commands) = named.get_mut("sentinel.rs") {
        commands.retain(|command| !OF_SENTINELS.contains(&command.as_str()));
    }
    assert!(named["finish.lua"].contains("xdel") && named["atomic.lua"].contains("xadd"), "{named:?}");
    assert!(
        named["remove_consumer.lua"].contains("xgroup|delconsumer") && named["read.rs"].contains("xgroup|create"),
        "{named:?}"
    );

    let another_users = |file: &str, command: &str| OTHERS.iter().any(|(f, c, _)| (*f, *c) == (file, command));
    for (file, commands) in &named {
        for command in commands {
            assert!(
                tried.contains(command) || another_users(file, command),
                "{file} needs {command}: preflight.lua has to try it, and users.acl to permit it"
            );
        }
    }
    let needed: BTreeSet<&String> = named.values().flatten().collect();
    let in_vain: Vec<_> = tried.iter().filter(|command| !needed.contains(command)).collect();
    assert!(in_vain.is_empty(), "tried, and needed by nothing: {in_vain:?}");
    assert_eq!(permitted("worker"), tried, "the user `worker` in deploy/redis/users.acl");
}

#[test]
fn alerts_name_metrics_that_exist_and_trouble_has_a_remedy_for_each_finding() {
    let metrics = files("src/telemetry", "rs").into_values().collect::<String>();
    let alerts = include_str!("../../deploy/alerts.yaml");
    let is_of_a_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let names: BTreeSet<&str> = alerts
        .match_indices("xco_worker_")
        .map(|(at, _)| alerts[at..].split(|c| !is_of_a_name(c)).next().unwrap())
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let series = name.trim_end_matches("_total").trim_end_matches("_count").trim_end_matches("_seconds").replacen(
            "xco_worker_",
            "xco_worker.",
            1,
        );
        assert!(metrics.contains(&format!("\"{series}\"")), "{name} is no metric");
    }
    assert_eq!(alerts.matches("- alert:").count(), alerts.matches("severity:").count());
    let trouble = include_str!("../../docs/redis-trouble.md");
    for what in xco_worker::queue::preflight::Finding::WHATS {
        assert!(trouble.contains(&format!("| `{what}` |")), "docs/redis-trouble.md tells nothing of {what}");
    }
}

#[test]
fn other_users_may_what_their_part_of_the_code_does() {
    let of = |folder: &str| -> BTreeSet<(String, String)> {
        let files = files(folder, "rs").into_iter();
        files.flat_map(|(file, text)| in_rust(&text).into_iter().map(move |command| (file.clone(), command))).collect()
    };
    let (reader, producer, operator) = (permitted("reader"), permitted("producer"), permitted("operator"));
    for (file, command) in of("src/completions") {
        // A wait for a reply uses the producer's user.
        let user = if file == "wait.rs" { &producer } else { &reader };
        assert!(user.contains(&command), "{file}: {command}");
    }
    for (file, command) in of("src/cli").into_iter().chain(of("src/operations")).chain(of("src/queue")) {
        let of_sentinels = file == "sentinel.rs" && OF_SENTINELS.contains(&command.as_str());
        let is_its_own_redis = ["namespace.rs", "local_redis.rs"].contains(&file.as_str());
        assert!(
            operator.contains(&command) || command == "ping" || is_its_own_redis || of_sentinels,
            "{file}: {command}"
        );
    }
    for (file, command, who) in OTHERS {
        assert!(operator.contains(command), "{file}: {command}: {who}");
    }
    // An operator can do what a worker can: `doctor` makes the same check.
    let missing: Vec<_> = permitted("worker").difference(&operator).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}
