//! `dead replay`, through the binary.

use super::{
    commands::{environment, json_lines, pointed},
    dead_letters::{audit, rows},
    support::{Rig, Setup, account, check, consent, create, start, verify, with},
};
use predicates::str::contains;
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use xco_worker::{
    contract::{EntryId, Partitions},
    queue::{
        Connector, IdIndex, Keys,
        dead_letters::{Replay, ReplayRun, Replayed},
    },
    sandbox::Fault,
};

/// `dead replay --json` with these flags: its estimate, its result, its exit code.
fn replay(rig: &Rig, flags: &str) -> (Value, Value, i32) {
    replay_with(rig, flags, &[])
}

fn replay_with(rig: &Rig, flags: &str, env: &[(&str, &str)]) -> (Value, Value, i32) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = pointed(&folder, rig);
    command.envs(env.iter().copied()).write_stdin("");
    let output = command.args(["dead", "replay", "--json"]).args(flags.split(' ')).output().unwrap();
    let printed = json_lines(&output.stdout);
    let part = |at: usize, name: &str| printed.get(at).map_or(Value::Null, |line| line[name].clone());
    (part(0, "plan"), part(1, "result"), output.status.code().unwrap())
}

/// Writes a dead letter as a worker does.
pub(super) async fn write(rig: &mut Rig, job: &Value, kind: &str, state: &str) -> EntryId {
    let key = rig.key("dead");
    let (id, job_type) = (job["id"].as_str().unwrap(), job["type"].as_str().unwrap());
    let replayable = if kind == "invalid_job" || job_type == "VerifyOtp" { "false" } else { "true" };
    let (job, error) = (job.to_string(), json!({"kind": kind, "message": "m", "retryable": true}).to_string());
    let fields = [
        ("id", id),
        ("type", job_type),
        ("job", &job),
        ("error", &error),
        ("at", "2026-01-31T09:05:07.042Z"),
        ("replayable", replayable),
        ("state", state),
    ];
    let entry: String = rig.connection.xadd(key, "*", &fields).await.unwrap();
    entry.parse().unwrap()
}

/// Waits for the completion of a job's replay with that number.
async fn completion(rig: &mut Rig, id: &str, replay: u64) -> Value {
    let is = |event: &Value| event["id"] == id && event["replay"].as_u64().unwrap_or(0) == replay;
    rig.follow(30, |completions| completions.iter().any(is)).await;
    rig.completions.iter().find(|event| is(event)).unwrap().clone()
}

async fn length(rig: &mut Rig, stream: &str) -> u64 {
    let key = rig.key(stream);
    rig.connection.xlen(key).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_again_is_a_letter_again_and_remembers_how_often() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(503).always());
    let job = with(with(check("again", "c"), "max_attempts", 1), "batch", "spring");
    rig.complete(job).await;
    for times in 1..=2 {
        let (plan, result, code) = replay(&rig, "--error upstream --yes");
        assert_eq!((plan["replay"].as_u64(), result["replayed"].as_u64(), code), (Some(1), Some(1), 0));
        let event = completion(&mut rig, "again", times).await;
        assert_eq!((event["status"].as_str(), event["attempts"].as_u64()), (Some("failed"), Some(1)));
        assert_eq!(rows(&rig, "list")[0]["replay"], times);
    }
    rig.sandbox.clear_faults();
    let (_, result, code) = replay(&rig, "--all --yes --wait 20s");
    assert_eq!((&result["outcomes"], code), (&json!({"absent": 1}), 0));
    completion(&mut rig, "again", 3).await;
    assert!(rig.letters().await.is_empty());
    let batch = rig.key("batch:spring");
    let counts: std::collections::BTreeMap<String, i64> = rig.connection.hgetall(batch).await.unwrap();
    assert_eq!((counts["accepted"], counts["succeeded"], counts["failed"]), (1, 1, 0));

    let audit = audit(&mut rig).await;
    let actions: Vec<_> = audit.iter().map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["dead replay", "dead replay ended"].repeat(3));
    assert_eq!(audit[0]["what"], r#"{"filter":{"error":["upstream"]}}"#);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_the_deadline_and_the_parent_are_those_of_the_job() {
    let mut rig = Setup::default().start().await;
    // Without an id, a job gets the id of its origin, and its child's id is derived from that.
    rig.sandbox.order(Fault::status(503).times(1));
    let child = json!({"type": "CheckUser", "args": {"email": "child@example.com"}});
    let mut job = with(with(check("x", "c"), "next", json!({"absent": child})), "max_attempts", 1);
    job.as_object_mut().unwrap().remove("id");
    let id = format!("interactive:0:{}", rig.enqueue(&job).await);
    rig.completion(&id).await;
    assert_eq!(replay(&rig, "--all --yes").2, 0);
    assert_eq!(completion(&mut rig, &id, 1).await["outcome"], "absent");
    let child = rig.completion(&format!("{id}/absent")).await;
    assert_eq!(child["parent_id"], id);

    // A deadline counts from the replay, and a long derived id stays valid.
    let long = format!("{}/absent", "x".repeat(128));
    let state = format!(r#"{{"o":"interactive:0:1600000000000-0","p":"{}","g":1}}"#, "x".repeat(128));
    let mut job = with(check("child", "c"), "ttl_ms", 20_000);
    job["id"] = long.as_str().into();
    write(&mut rig, &job, "upstream", &state).await;
    assert_eq!(replay(&rig, "--all --yes").2, 0);
    let event = completion(&mut rig, &long, 1).await;
    assert_eq!((event["status"].as_str(), event["parent_id"].as_str()), (Some("succeeded"), Some(&*"x".repeat(128))));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_what_is_unsafe_and_a_dry_run_changes_nothing() {
    let mut rig = Setup::default().without_worker().await;
    write(&mut rig, &check("good", "c"), "upstream", "").await;
    write(&mut rig, &start("otp", "c", "ada@example.com"), "upstream", "").await;
    write(&mut rig, &start("otp-doubt", "c", "ada@example.com"), "in_doubt", "").await;
    let challenge = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
    write(&mut rig, &consent("doubt", challenge), "in_doubt", "").await;
    write(&mut rig, &verify("code", "c", "ada@example.com", "123456"), "in_doubt", "").await;
    write(&mut rig, &with(check("wrong", "c"), "nickname", "x"), "invalid_job", "").await;
    let kinds = |flags: &str| {
        let (plan, result, code) = replay(&rig, flags);
        assert_eq!((&result, code), (&Value::Null, 0));
        let mut refused: Vec<String> = plan["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|kind| Some(format!("{} {}", kind["type"].as_str()?, kind["refused"].as_str()?)))
            .collect();
        refused.sort();
        (plan["replay"].as_u64().unwrap(), refused.join(", "))
    };
    let otps = "StartOtp sends_code";
    let rest = "VerifyOtp needs_code";
    assert_eq!(
        kinds("--all --dry-run"),
        (1, format!("CheckUser rejected, FinalizeConsent in_doubt, {otps}, {otps}, {rest}"))
    );
    assert_eq!(
        kinds("--all --dry-run --force"),
        (2, format!("CheckUser rejected, FinalizeConsent in_doubt, StartOtp in_doubt, {rest}"))
    );
    assert_eq!(kinds("--all --dry-run --accept-doubt"), (2, format!("CheckUser rejected, {otps}, {otps}, {rest}")));
    assert_eq!(kinds("--all --dry-run --force --accept-doubt"), (4, format!("CheckUser rejected, {rest}")));
    assert_eq!(length(&mut rig, "dead").await, 6);
    assert!(audit(&mut rig).await.is_empty());

    // Nothing to replay is a failure. No terminal to ask on, and no filter, are wrong usage.
    assert_eq!(replay(&rig, "--type VerifyOtp --yes").2, 1);
    assert_eq!(replay(&rig, "--id good").2, 2);
    assert_eq!(replay(&rig, "--yes").2, 2);
    assert_eq!(replay(&rig, "--all --edit --yes").2, 2);
    // The duration is bounded by the rate or by a limit.
    for number in 0..20 {
        write(&mut rig, &check(&format!("same-{number}"), "one"), "timeout", "").await;
    }
    let plan = replay(&rig, "--error timeout --dry-run --rate 10/s").0;
    assert_eq!((plan["at_least_ms"].as_u64(), plan["limited_by"].as_str()), (Some(1900), Some("--rate")));
    let limited = [("XCO_WORKER__LIMITS__CALLER__RATE", "1/s"), ("XCO_WORKER__LIMITS__CALLER__BURST", "5")];
    let plan = replay_with(&rig, "--error timeout --dry-run", &limited).0;
    let least = plan["at_least_ms"].as_u64().unwrap();
    assert!((15_000..18_000).contains(&least), "{plan:#}");
    assert_eq!(plan["limited_by"], "one caller's limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_knows_that_a_429_has_closed_a_bucket() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(429).retry_after("60").times(1));
    rig.enqueue(&create("closed", "ada@example.com")).await;
    let delayed = rig.key("delayed");
    rig.eventually("it is parked", async |rig| rig.connection.zcard::<_, u64>(&delayed).await.unwrap() == 1).await;
    write(&mut rig, &create("dead", "bob@example.com"), "timeout", "").await;
    let plan = replay(&rig, "--all --dry-run").0;
    assert!(plan["at_least_ms"].as_u64().unwrap() > 30_000, "{plan:#}");
    assert_eq!(plan["limited_by"], "the limit on calls without a caller");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_makes_a_rejected_job_valid_and_the_original_is_kept() {
    let mut rig = Setup::default().start().await;
    let job = with(create("user", "ada at example.com"), "batch", "spring");
    rig.complete(job).await;
    let set = "--id user --yes --set /args/user/email=";
    let (plan, _, code) = replay(&rig, &format!("{set}ada"));
    assert_eq!((&plan["invalid_at"], code), (&json!({"/args/user/email": 1}), 1));
    assert_eq!(replay(&rig, &format!("{set}ada@example.com")).2, 0);
    assert_eq!(completion(&mut rig, "user", 1).await["outcome"], "created");
    let shown = rows(&rig, "show user --reveal");
    assert_eq!(shown[0]["original"]["args"]["user"]["email"], "ada at example.com");
    assert_eq!(shown[0]["job"]["args"]["user"]["email"], "ada@example.com");
    assert!(!rows(&rig, "show user")[0].to_string().contains("ada"));
    let counts: std::collections::BTreeMap<String, i64> =
        rig.connection.hgetall(rig.key("batch:spring")).await.unwrap();
    assert_eq!((counts["accepted"], counts["succeeded"], counts["rejected"]), (1, 1, 0));

    // With an editor. Text that is not JSON can be turned into a job, too.
    rig.enqueue_text("interactive", "{oops").await;
    rig.wait_for(3).await;
    let job = check("made", "c").to_string();
    let editor = format!("f() {{ printf %s '{job}' > \"$1\"; }}; f");
    let (_, result, code) = replay_with(&rig, "--error invalid_job --edit --yes", &[("EDITOR", &editor)]);
    assert_eq!((result["replayed"].as_u64(), code), (Some(1), 0));
    completion(&mut rig, "made", 1).await;
    let recorded = audit(&mut rig).await.iter().map(|entry| entry["what"].clone()).collect::<String>();
    assert!(recorded.contains(r#""changed":["/args/user/email"]"#) && !recorded.contains("ada"), "{recorded}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_came_again_meanwhile_is_not_run_twice() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.order(Fault::status(503).times(1));
    let job = with(check("twice", "c"), "max_attempts", 1);
    rig.complete(job.clone()).await;
    // As if the window had passed.
    rig.forget_index().await;
    rig.enqueue(&job).await;
    rig.follow(30, |completions| completions.len() == 2).await;
    let (_, result, code) = replay(&rig, "--id twice --yes");
    assert_eq!((result["superseded"].as_u64(), result["replayed"].as_u64(), code), (Some(1), Some(0), 1));
    assert_eq!(rig.letters().await.len(), 1);
    rig.completions.remove(0);

    // The reverse: a job that arrives during the replay is a duplicate of it.
    rig.stop_workers().await;
    write(&mut rig, &check("once", "c"), "timeout", "").await;
    assert_eq!(replay(&rig, "--id once --yes").2, 0);
    rig.enqueue(&check("once", "c")).await;
    rig.start_worker();
    completion(&mut rig, "once", 1).await;
    rig.eventually("the lane is empty", async |rig| length(rig, "jobs:interactive").await == 0).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    const LETTERS: u64 = 400;
    let mut rig = Setup::default().without_worker().await;
    rig.sandbox.seed_user(&account("ada@example.com"));
    for number in 0..LETTERS {
        write(&mut rig, &check(&format!("job-{number}"), &format!("c-{number}")), "upstream", "").await;
    }
    let spawn = |rig: &Rig| {
        Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
            .args(["dead", "replay", "--all", "--yes", "--rate", "400/s"])
            .envs(environment(rig))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    for left in [300, 200, 100] {
        let mut child = spawn(&rig);
        let deadline = Instant::now() + Duration::from_secs(20);
        while length(&mut rig, "dead").await > left {
            assert!(Instant::now() < deadline, "the replay does not get on");
            sleep(Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (dead, due) = (length(&mut rig, "dead").await, length(&mut rig, "due:bulk").await);
        assert_eq!(dead + due, LETTERS);
        assert!(dead > 0, "killed too late to tell");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut last = pointed(&folder, &rig);
    last.args(["dead", "replay", "--all", "--yes", "--rate", "10000/s"])
        .assert()
        .code(0)
        .stdout(contains("replayed in"));
    assert_eq!((length(&mut rig, "dead").await, length(&mut rig, "due:bulk").await), (0, LETTERS));
    rig.start_worker();
    rig.wait_for(usize::try_from(LETTERS).unwrap()).await;
    assert!(rig.completions.iter().all(|event| event["replay"] == 1 && event["status"] == "succeeded"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_replay_says_what_it_did_and_the_next_goes_on() {
    let mut rig = Setup::default().without_worker().await;
    for number in 0..40 {
        write(&mut rig, &check(&format!("job-{number}"), "c"), "upstream", "").await;
    }
    let child = Command::new(assert_cmd::cargo::cargo_bin("xco-worker"))
        .args(["dead", "replay", "--all", "--yes", "--rate", "5/s", "--json"])
        .envs(environment(&rig))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    rig.eventually("a letter is moved", async |rig| length(rig, "due:bulk").await > 0).await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let result = &json_lines(&output.stdout)[1]["result"];
    let moved = length(&mut rig, "due:bulk").await;
    assert_eq!((result["replayed"].as_u64(), &result["interrupted"]), (Some(moved), &json!(true)));
    let (plan, rest, code) = replay(&rig, "--all --yes --rate 1000/s");
    assert_eq!((plan["replay"].as_u64(), rest["replayed"].as_u64(), code), (Some(40 - moved), Some(40 - moved), 0));
    let ended = audit(&mut rig).await;
    assert_eq!(ended[1]["count"], moved.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_answer_was_lost_can_be_taken_again() {
    let mut rig = Setup::default().without_worker().await;
    let job = check("a", "c");
    let entry = write(&mut rig, &job, "upstream", "").await;
    let letter = |entry| Replay {
        entry,
        id: "a".to_owned(),
        job: job.to_string(),
        state: r#"{"o":"bulk:0:0-0","n":1,"i":true}"#.to_owned(),
        held_by: "bulk:0:0-0".to_owned(),
        batch: None,
        original: None,
    };
    let mut link = Connector::new(&rig.redis_as("operator")).unwrap().link(false);
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    let mut run = ReplayRun::new("ada".to_owned(), IdIndex::new(Duration::from_secs(60), Duration::ZERO));
    run.next_step();
    for _ in 0..3 {
        assert_eq!(run.replay(&mut link, &keys, &[letter(entry)]).await.unwrap(), [Replayed::Moved]);
    }
    run.next_step();
    assert_eq!(run.replay(&mut link, &keys, &[letter(entry)]).await.unwrap(), [Replayed::Gone]);
    // Replayed, under its own origin. Another dead letter with the same id stays.
    let other = write(&mut rig, &job, "upstream", "").await;
    run.next_step();
    assert_eq!(run.replay(&mut link, &keys, &[letter(other)]).await.unwrap(), [Replayed::Superseded]);
    assert_eq!((length(&mut rig, "dead").await, length(&mut rig, "due:bulk").await), (1, 1));
    rig.start_worker();
    completion(&mut rig, "a", 1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_in_two_partitions_reaches_both() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.start().await;
    for partition in 0..2 {
        let key = rig.key_in(partition, "dead");
        let job = check(&format!("p-{partition}"), "c").to_string();
        let id = format!("p-{partition}");
        let fields = [("id", id.as_str()), ("type", "CheckUser"), ("job", &job), ("error", r#"{"kind":"timeout"}"#)];
        let _: String =
            rig.connection.xadd(key, "*", &[&fields[..], &[("replayable", "true")]].concat()).await.unwrap();
    }
    let env = [("XCO_WORKER__REDIS__PARTITIONS", "2")];
    let (plan, result, code) = replay_with(&rig, "--all --yes --wait 20s", &env);
    assert_eq!((plan["replay"].as_u64(), code), (Some(2), 0));
    assert_eq!(result["outcomes"], json!({"absent": 2}));
    rig.wait_for(2).await;
    rig.end().await;
}
