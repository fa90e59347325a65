//! `dead list`, `show`, `export` and `discard`, through the binary.

use super::{
    commands::{json_lines, lines, pointed},
    support::{Rig, Setup, check, create, start, with},
};
use predicates::{
    prelude::PredicateBooleanExt,
    str::{contains, is_empty},
};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};
use xco_worker::sandbox::{Fault, Route};

/// The rows that `dead` prints with `--json` for these flags.
pub(super) fn rows(rig: &Rig, flags: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = pointed(&folder, rig);
    command.args(["dead", "--json"]).args(flags.split(' '));
    json_lines(&command.assert().code(0).get_output().stdout)
}

/// The ids in those rows, sorted.
fn ids(rig: &Rig, flags: &str) -> Vec<String> {
    let mut ids: Vec<String> = rows(rig, flags).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// Operators' actions, as recorded.
pub(super) async fn audit(rig: &mut Rig) -> Vec<BTreeMap<String, String>> {
    let key = rig.key("audit");
    let entries: Vec<(String, BTreeMap<String, String>)> = rig.connection.xrange_all(key).await.unwrap();
    entries.into_iter().map(|(_, fields)| fields).collect()
}

/// Five dead letters: `busy-1`, `busy-2` (503), `otp` (503), `known` (422) and `wrong` (rejected).
async fn five_letters() -> Rig {
    let mut rig = Setup::default().start().await;
    let once = |job: Value| with(job, "max_attempts", 1);
    let problem = json!({"type": "https://xco.example/problems/bad-user", "title": "No", "detail": "Ada is known"});
    rig.sandbox.order(Fault::status(422).on(Route::Create).body(problem).always());
    rig.sandbox.order(Fault::status(503).always());
    rig.enqueue(&with(once(check("busy-1", "192.0.2.1")), "batch", "spring")).await;
    rig.enqueue(&with(once(check("busy-2", "192.0.2.2")), "customer_reference", "c-2")).await;
    rig.enqueue(&once(start("otp", "192.0.2.1", "ada@example.com"))).await;
    rig.enqueue(&create("known", "bob@example.com")).await;
    rig.enqueue(&with(check("wrong", "192.0.2.3"), "nickname", "Ada")).await;
    rig.wait_for(5).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_counted_and_found() {
    let rig = five_letters().await;
    let all = ["busy-1", "busy-2", "known", "otp", "wrong"];
    for (flags, expected) in [
        ("list", all.as_slice()),
        ("list --error upstream", &["busy-1", "busy-2", "otp"]),
        ("list --error validation,invalid_job", &["known", "wrong"]),
        ("list --type CheckUser --http-status 5xx", &["busy-1", "busy-2"]),
        ("list --http-status 422 --problem bad-user", &["known"]),
        ("list --batch spring", &["busy-1"]),
        ("list --caller 192.0.2.1", &["busy-1", "otp"]),
        ("list --caller ref-known", &["known"]),
        ("list --customer-reference c-2", &["busy-2"]),
        ("list --text bob@example.com", &["known"]),
        ("list --id otp --id wrong", &["otp", "wrong"]),
        ("list --status failed", &["busy-1", "busy-2", "known", "otp"]),
        ("list --status rejected,crash_loop", &["wrong"]),
        ("list --replayable", &["busy-1", "busy-2", "known", "otp"]),
        ("list --since 1h", &all),
        ("list --older-than 1h", &[]),
        ("list --until 2020-01-01T00:00:00Z", &[]),
    ] {
        assert_eq!(ids(&rig, flags), expected, "{flags}");
    }
    let newest_first = rows(&rig, "list --limit 2");
    assert_eq!(newest_first.len(), 2);
    assert!(newest_first[0]["entry"].as_str() > newest_first[1]["entry"].as_str());

    let groups = rows(&rig, "list --by error.kind");
    assert_eq!(groups[0], json!({"error.kind": "upstream", "count": 3}));
    assert_eq!(groups.len(), 3);
    let groups = rows(&rig, "list --by type,http_status --error upstream --limit 1");
    assert_eq!(groups[0], json!({"type": "CheckUser", "error.http_status": "503", "count": 2}));
    assert_eq!(groups[1], json!({"others": true, "count": 1}));

    // Lists contain no personal data.
    let folder = tempfile::tempdir().unwrap();
    for flags in [&["list"][..], &["list", "--json"]] {
        let mut command = pointed(&folder, &rig);
        let private = contains("example.com").or(contains("192.0.2")).or(contains("Ada")).or(contains("c-2"));
        command.arg("dead").args(flags).assert().code(0).stdout(contains("busy-1").and(private.not()));
    }
    let cut = pointed(&folder, &rig).args(["dead", "list", "--limit", "3"]).assert().code(0).get_output().clone();
    assert_eq!(lines(&cut.stdout).len(), 3);
    assert_eq!(lines(&cut.stderr), ["… and 2 more"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_shown_masked_and_revealed_on_the_record() {
    let mut rig = five_letters().await;
    let shown = rows(&rig, "show known");
    assert_eq!(shown[0]["job"]["args"]["user"]["email"], "xxx@xxxxxxx.xxx");
    assert_eq!(shown[0]["job"]["type"], "CreateUser");
    assert_eq!(shown[0]["error"]["problem"]["type"], "https://xco.example/problems/bad-user");
    assert!(!shown[0].to_string().contains("Ada"), "{}", shown[0]);
    assert!(audit(&mut rig).await.is_empty());

    let entry = shown[0]["entry"].as_str().unwrap();
    let revealed = rows(&rig, &format!("show {entry} --reveal"));
    assert_eq!(revealed[0]["job"]["args"]["user"]["email"], "bob@example.com");
    assert_eq!(audit(&mut rig).await[0]["action"], "dead show");
    let folder = tempfile::tempdir().unwrap();
    pointed(&folder, &rig).args(["dead", "show", "nobody"]).assert().code(1).stderr(contains("no dead letter"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_complete_and_private() {
    let mut rig = five_letters().await;
    let exported = rows(&rig, "export --type CreateUser");
    assert_eq!(exported.len(), 1);
    assert_eq!(exported[0]["job"]["args"]["user"]["email"], "bob@example.com");
    let folder = tempfile::tempdir().unwrap();
    let flags = ["dead", "export", "--file", "letters.ndjson"];
    pointed(&folder, &rig).args(flags).assert().code(0).stdout(is_empty()).stderr(contains("5 dead letters"));
    let file = folder.path().join("letters.ndjson");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(json_lines(&std::fs::read(&file).unwrap()).len(), 5);
    pointed(&folder, &rig).args(flags).assert().code(1).stderr(contains("the file must not exist"));
    let audit = audit(&mut rig).await;
    let recorded: Vec<_> = audit.iter().map(|entry| (entry["action"].as_str(), entry["count"].as_str())).collect();
    assert_eq!(&recorded[..2], [("dead export", "0"), ("dead export ended", "1")]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_is_planned_confirmed_recorded_and_exact() {
    let mut rig = five_letters().await;
    let folder = tempfile::tempdir().unwrap();
    let discard = |flags: &str| {
        let mut command = pointed(&folder, &rig);
        command.args(["dead", "discard"]).args(flags.split(' ')).write_stdin("");
        command
    };
    discard("--error upstream --dry-run").assert().code(0).stdout(contains("3 dead letters to be removed"));
    discard("--error upstream").assert().code(2).stderr(contains("--yes"));
    discard("--yes").assert().code(2).stderr(contains("--all"));
    discard("--error timeout --yes").assert().code(1);
    assert_eq!(ids(&rig, "list").len(), 5);
    discard("--error upstream --yes").assert().code(0).stdout(contains("3 dead letters removed"));
    assert_eq!(ids(&rig, "list"), ["known", "wrong"]);
    discard("--all --yes").assert().code(0);
    assert!(ids(&rig, "list").is_empty());
    let audit = audit(&mut rig).await;
    assert_eq!((audit[0]["action"].as_str(), audit[0]["count"].as_str()), ("dead discard", "3"));
    assert_eq!(audit[0]["what"], r#"{"filter":{"error":["upstream"]}}"#);
    rig.end().await;
}
