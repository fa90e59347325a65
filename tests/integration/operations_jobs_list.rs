//! `jobs list`, as an operation and through the binary.

use super::{
    commands::{json_lines, pointed},
    support::{Rig, Setup, check, create, in_time, with},
};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use xco_worker::{
    contract::{JobType, Lane, Status},
    operations::{
        Actor, Backend, MerchantScope, NoProgress,
        dead_letters::{self, Moment, Reveal, ShowRequest},
        jobs::{self, JobFilter, JobList, JobListRequest, ListCursor, Stage},
    },
    sandbox::Fault,
};

fn everything(filter: JobFilter) -> JobListRequest {
    JobListRequest { filter, limit: 1_000, look_at_most: u64::MAX, cursor: None }
}

async fn listed(rig: &Rig, filter: JobFilter) -> JobList {
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    jobs::list(&mut backend, &everything(filter), &NoProgress).await.unwrap()
}

async fn ids(rig: &Rig, filter: JobFilter) -> Vec<String> {
    let list = listed(rig, filter).await;
    assert!(list.complete && list.cursor.is_none());
    list.jobs.into_iter().map(|job| job.id).collect()
}

fn stage(stage: Stage) -> JobFilter {
    JobFilter { stage: vec![stage], ..JobFilter::default() }
}

/// A job in each stage: `ended`, `delayed`, `in-flight` (held by a consumer that is not a worker) and `waiting`.
async fn one_in_each_stage() -> Rig {
    let mut rig = Setup::default().start().await;
    rig.complete(with(check("ended", "c"), "batch", "spring")).await;
    rig.enqueue(&with(check("delayed", "c"), "run_at", in_time(Duration::from_secs(3600)))).await;
    rig.eventually("it is delayed", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 1
    })
    .await;
    rig.stop_workers().await;
    rig.enqueue_all(Lane::Bulk, [check("in-flight", "d"), with(check("waiting", "c"), "batch", "spring")]).await;
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("workers").arg("other").arg("COUNT").arg(1).arg("STREAMS").arg(rig.key("jobs:bulk")).arg(">");
    read.exec_async(&mut rig.connection).await.unwrap();
    rig
}

/// Removes what a test left in the queue.
async fn clear(rig: &mut Rig) {
    for key in ["jobs:bulk", "delayed", "delayed:jobs"] {
        rig.connection.del::<_, ()>(rig.key(key)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_in_every_stage() {
    let mut rig = one_in_each_stage().await;
    assert_eq!(ids(&rig, JobFilter::default()).await, ["in-flight", "waiting", "delayed", "ended"]);
    for (wanted, id) in [
        (Stage::Waiting, "waiting"),
        (Stage::Running, "in-flight"),
        (Stage::Delayed, "delayed"),
        (Stage::Ended, "ended"),
    ] {
        assert_eq!(ids(&rig, stage(wanted)).await, [id]);
    }
    let all = JobFilter::default();
    assert_eq!(ids(&rig, JobFilter { batch: Some("spring".into()), ..all.clone() }).await, ["waiting", "ended"]);
    assert_eq!(ids(&rig, JobFilter { caller: Some("d".into()), ..all.clone() }).await, ["in-flight"]);
    assert_eq!(ids(&rig, JobFilter { lane: Some(Lane::Interactive), ..all.clone() }).await, ["delayed"]);
    assert_eq!(ids(&rig, JobFilter { status: vec![Status::Succeeded], ..all.clone() }).await, ["ended"]);
    for id in ["waiting", "in-flight", "delayed", "ended"] {
        assert_eq!(ids(&rig, JobFilter { id: Some(id.into()), ..all.clone() }).await, [id]);
    }
    let wrong_stage = JobFilter { id: Some("ended".into()), ..stage(Stage::Delayed) };
    assert!(ids(&rig, wrong_stage).await.is_empty(), "an id is one condition among the others");
    assert!(ids(&rig, JobFilter { job_type: vec![JobType::StartOtp], ..all.clone() }).await.is_empty());

    let list = json!(listed(&rig, all).await);
    let ended = &list["jobs"][3];
    let expected = json!({"id": "ended", "state": "ended", "type": "CheckUser", "since": ended["since"],
        "status": "succeeded", "outcome": "absent", "attempts": 1, "batch": "spring"});
    assert_eq!((ended, &list["looked_at"], &list["complete"]), (&expected, &json!(4), &json!(true)));
    assert_eq!(list["jobs"][0]["state"], "running");
    let delayed = &list["jobs"][2];
    assert_eq!((&delayed["waits_for"], &delayed["lane"]), (&json!("run_at"), &json!("interactive")));
    assert!(delayed["until"].as_str().unwrap() > delayed["since"].as_str().unwrap(), "{delayed}");
    clear(&mut rig).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_found_by_contact_wherever_the_job_is() {
    let mut rig = Setup::default().start().await;
    rig.complete(create("created", "ada@example.com")).await;
    rig.complete(create("other", "eve@example.com")).await;
    // It becomes a dead letter: the worker rejects it.
    rig.complete(with(create("rejected", "ada@example.com"), "run_at", "tomorrow")).await;
    rig.stop_workers().await;
    let waiting = json!({"id": "checked", "type": "CheckUser", "caller_id": "c", "args": {"email": "Ada@Example.com"}});
    rig.enqueue(&waiting).await;
    let ada = JobFilter { email: Some("ada@example.com".into()), ..JobFilter::default() };
    assert_eq!(ids(&rig, ada.clone()).await, ["checked", "created", "rejected"]);
    let rejected = JobFilter { status: vec![Status::Rejected], ..ada };
    let list = json!(listed(&rig, rejected).await);
    assert_eq!((&list["jobs"][0]["status"], &list["jobs"][0]["error"]), (&json!("rejected"), &json!("invalid_job")));
    assert!(!list.to_string().contains("example.com"), "a list shows no contact: {list}");
    rig.start_worker();
    rig.completion("checked").await;
    rig.end().await;
}

/// A pause gives a million jobs the same due time, and jobs leave while somebody reads the list.
#[tokio::test(flavor = "multi_thread")]
async fn pages_repeat_nothing_and_miss_nothing() {
    let mut rig = Setup::default().without_worker().await;
    let origin = |n: u64| format!("bulk:0:{n}-0");
    let mut pipe = redis::pipe();
    for n in 1000..1500_u64 {
        let score = if n % 5 == 0 { 7_000_000 + n } else { 1 << 52 };
        let content = format!("{{\"o\":\"{}\"}}\n{}", origin(n), check(&n.to_string(), "c"));
        pipe.zadd(rig.key("delayed"), origin(n), score).ignore();
        pipe.hset(rig.key("delayed:jobs"), origin(n), content).ignore();
    }
    pipe.exec_async(&mut rig.connection).await.unwrap();
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    let mut request = JobListRequest { limit: 7, ..everything(JobFilter::default()) };
    let mut seen = Vec::new();
    let mut gone = BTreeSet::new();
    loop {
        let page = jobs::list(&mut backend, &request, &NoProgress).await.unwrap();
        seen.extend(page.jobs.iter().map(|job| job.id.clone()));
        let Some(cursor) = page.cursor else { break };
        assert!(page.jobs.len() <= 7 && page.looked_at <= 7);
        request.cursor = Some(cursor.to_string().parse::<ListCursor>().unwrap());
        // Every other time the last job of the page leaves, and one that nobody has listed yet.
        if seen.len() % 2 == 0 {
            let unlisted = (1000..1500).rev().map(|n: u64| n.to_string());
            let unlisted = unlisted.into_iter().find(|id| !seen.contains(id) && !gone.contains(id));
            for id in page.jobs.last().map(|job| job.id.clone()).into_iter().chain(unlisted) {
                let name = origin(id.parse().unwrap());
                rig.connection.zrem::<_, _, ()>(rig.key("delayed"), &name).await.unwrap();
                rig.connection.hdel::<_, _, ()>(rig.key("delayed:jobs"), &name).await.unwrap();
                gone.insert(id);
            }
        }
    }
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is repeated");
    let missed = (1000..1500_u64).map(|n| n.to_string()).filter(|id| !distinct.contains(id) && !gone.contains(id));
    assert_eq!(missed.count(), 0);
    assert!(seen[..50].iter().all(|id| id.ends_with(['0', '5'])), "those that are due first come first");

    let bounded =
        JobListRequest { look_at_most: 100, ..everything(JobFilter { id: Some("no".into()), ..JobFilter::default() }) };
    let page = jobs::list(&mut backend, &bounded, &NoProgress).await.unwrap();
    assert_eq!((page.jobs.len(), page.looked_at, page.complete, page.cursor.is_some()), (0, 100, false, true));
    clear(&mut rig).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_jobs_and_how_far_it_looked() {
    let mut rig = one_in_each_stage().await;
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| pointed(&folder, &rig).args(["jobs", "list"]).args(args).assert();
    let output = run(&[]).code(0);
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[2].contains("delayed") && lines[2].contains("waits for run_at until"), "{text}");
    assert!(lines[3].ends_with("succeeded (absent)"), "{text}");

    let first = json_lines(&run(&["--json", "--limit", "3"]).code(0).get_output().stdout);
    let Some((end, jobs)) = first.split_last() else { panic!("no line") };
    let found: Vec<&Value> = jobs.iter().map(|job| &job["id"]).collect();
    assert_eq!(found, ["in-flight", "waiting", "delayed"]);
    assert_eq!((&end["looked_at"], &end["complete"]), (&json!(3), &json!(false)));
    let cursor = end["cursor"].as_str().unwrap();
    let rest = json_lines(&run(&["--json", "--cursor", cursor]).code(0).get_output().stdout);
    assert_eq!((&rest[0]["id"], &rest[1]), (&json!("ended"), &json!({"looked_at": 1, "complete": true})));
    run(&["--lane", "bulk", "--state", "ended"]).code(2);
    run(&["--status", "failed", "--state", "delayed"]).code(2);
    for state in ["running", "in_flight"] {
        let found = json_lines(&run(&["--json", "--state", state]).code(0).get_output().stdout);
        assert_eq!((&found[0]["id"], &found[0]["state"]), (&json!("in-flight"), &json!("running")), "{state}");
    }
    run(&["--since", "soon"]).code(2);
    clear(&mut rig).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attempts_of_a_job_are_remembered() {
    let mut setup = Setup::default();
    setup.config.worker.breaker = false;
    let mut rig = setup.without_worker().await;
    rig.sandbox.order(Fault::status(503).times(2));
    rig.start_worker();
    let completion = rig.complete(with(check("dead", "c"), "max_attempts", 2)).await;
    let redis = rig.redis_as("operator");
    let mut backend = Backend::connect(&redis).await.unwrap();
    let request = ShowRequest { id: "dead", merchants: &MerchantScope::all(), reveal: Reveal::Masked };
    let shown = dead_letters::show(&mut backend, &Actor::new("ada", "box"), &request).await.unwrap();
    let history = &shown.dead_letters[0].history;
    assert_eq!((history.len(), &completion["attempts"]), (2, &json!(2)));
    assert!(history[0].waited_ms.is_some(), "{history:?}");
    for attempt in history {
        let attempt = json!(attempt);
        assert_eq!((&attempt["http_status"], &attempt["error"]), (&json!(503), &json!("upstream")), "{attempt}");
    }
    assert_eq!(history.last().unwrap().waited_ms, None);
    assert!(completion.get("history").is_none(), "a completion is as before");
    let everyone = MerchantScope::all();
    let ended = jobs::explain(&mut backend, &rig.config, "dead", &everyone, &NoProgress).await.unwrap();
    assert_eq!(json!(ended)["history"], json!(history), "the dead letter remembers them");
    assert!(
        ended.words.iter().filter(|line| line.contains(": 503 (upstream) after ")).count() == 2,
        "{:?}",
        ended.words
    );
    rig.stop_workers().await;

    // XCO asks for an hour.
    rig.sandbox.order(Fault::status(503).retry_after("3600"));
    rig.start_worker();
    rig.enqueue(&with(check("later", "c"), "ttl_ms", 86_400_000)).await;
    rig.eventually("it is delayed", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 1
    })
    .await;
    let explained =
        jobs::explain(&mut backend, &rig.config, "later", &MerchantScope::all(), &NoProgress).await.unwrap();
    let explained = json!(explained);
    let history = explained["history"].as_array().unwrap();
    assert_eq!((history.len(), &history[0]["http_status"]), (1, &json!(503)), "{explained}");
    assert_eq!((&explained["attempts"], &explained["waits_for"]), (&json!(1), &json!("retry")));
    let folder = tempfile::tempdir().unwrap();
    let output = pointed(&folder, &rig).args(["why", "later"]).assert().code(0);
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(text.contains(": 503 (upstream) after "), "{text}");
    let job = jobs::examine(&mut backend, "later", &MerchantScope::all(), &NoProgress).await.unwrap();
    jobs::cancel_job(&mut backend, &Actor::new("ada", "box"), job).await.unwrap();
    rig.completion("later").await;
    rig.end().await;
}

/// The index of ids knows where a job is, however many others there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_an_id_is_found_without_reading_the_others() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("first", "c")).await;
    for n in 0..40 {
        rig.enqueue(&check(&format!("other-{n}"), &format!("c{n}"))).await;
    }
    rig.wait_for(41).await;
    let list = listed(&rig, JobFilter { id: Some("first".into()), ..JobFilter::default() }).await;
    assert_eq!((list.jobs.len(), list.looked_at, list.complete), (1, 1, true), "{list:?}");
    // Without the index the completions are read, up to the job.
    rig.forget_index().await;
    let list = listed(&rig, JobFilter { id: Some("first".into()), ..JobFilter::default() }).await;
    assert_eq!((list.jobs.len(), list.looked_at, list.complete), (1, 41, true), "{list:?}");
    let list = listed(&rig, JobFilter { id: Some("other-39".into()), ..JobFilter::default() }).await;
    assert!(list.jobs.len() == 1 && list.looked_at < 41 && list.cursor.is_none(), "no other job has the id: {list:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_and_merchants_are_conditions_wherever_jobs_are() {
    const OTHER: &str = "0f0e6a3f-7c53-4d4b-9f3c-2f4c7f0f3b22";
    let mut rig = Setup::default().start().await;
    let later = in_time(Duration::from_secs(3600));
    let in_all_places = |name: &str| {
        [
            check(&format!("{name}-ended"), "c"),
            with(check(&format!("{name}-delayed"), "c"), "run_at", later.clone()),
            with(create(&format!("{name}-dead"), "ada@example.com"), "run_at", "tomorrow"),
        ]
    };
    for [ended, delayed, dead] in
        [in_all_places("ours"), in_all_places("theirs").map(|job| with(job, "merchant_id", OTHER))]
    {
        rig.complete(ended).await;
        rig.enqueue(&delayed).await;
        rig.complete(dead).await;
    }
    rig.eventually("they are delayed", async |rig: &mut Rig| {
        rig.connection.zcard::<_, u64>(rig.key("delayed")).await.unwrap() == 2
    })
    .await;
    rig.stop_workers().await;
    rig.enqueue(&check("ours-waiting", "c")).await;
    rig.enqueue(&with(check("theirs-waiting", "c"), "merchant_id", OTHER)).await;

    let config = rig.config.clone();
    let ours = MerchantScope::only(config.xco.merchant_id.as_ref(), config.xco.merchant_id.as_ref());
    let of = |merchants: &MerchantScope| JobFilter { merchants: merchants.clone(), ..JobFilter::default() };
    assert_eq!(ids(&rig, of(&ours)).await, ["ours-waiting", "ours-delayed", "ours-dead", "ours-ended"]);
    let nobody = MerchantScope::only([], config.xco.merchant_id.as_ref());
    assert!(ids(&rig, of(&nobody)).await.is_empty());
    for id in ["theirs-waiting", "theirs-delayed", "theirs-ended", "theirs-dead"] {
        let by_id = JobFilter { id: Some(id.into()), ..of(&ours) };
        let hidden = listed(&rig, by_id.clone()).await;
        let unknown = listed(&rig, JobFilter { id: Some("nobody".into()), ..by_id }).await;
        assert_eq!(hidden, unknown, "{id}");
        assert_eq!(ids(&rig, JobFilter { id: Some(id.into()), ..JobFilter::default() }).await, [id]);
    }
    // The dead letter of a job is read when a contact is searched.
    let dead = JobFilter { email: Some("ada@example.com".into()), ..of(&ours) };
    assert_eq!(ids(&rig, dead).await, ["ours-dead"]);

    let all = ids(&rig, JobFilter::default()).await;
    let since = |moment: Moment| JobFilter { since: Some(moment), ..JobFilter::default() };
    assert_eq!(ids(&rig, since(Moment::Ago(Duration::from_secs(3600)))).await, all);
    assert_eq!(ids(&rig, since(Moment::At(0))).await, all);
    let list = listed(&rig, JobFilter::default()).await;
    let entered: BTreeMap<_, _> = list.jobs.iter().map(|job| (job.id.clone(), job.since.clone())).collect();
    let at = entered["theirs-ended"].parse::<Moment>().unwrap();
    let expected: Vec<_> = all.iter().filter(|id| entered[*id] >= entered["theirs-ended"]).cloned().collect();
    assert!(!expected.contains(&"ours-ended".to_owned()) && expected.len() >= 5, "{entered:?}");
    assert_eq!(ids(&rig, since(at)).await, expected);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    assert!(ids(&rig, since(soon.to_string().parse().unwrap())).await.is_empty());
    for id in ["ours-delayed", "theirs-delayed"] {
        let redis = rig.redis_as("operator");
        let mut backend = Backend::connect(&redis).await.unwrap();
        let job = jobs::examine(&mut backend, id, &MerchantScope::all(), &NoProgress).await.unwrap();
        jobs::cancel_job(&mut backend, &Actor::new("ada", "box"), job).await.unwrap();
    }
    rig.start_worker();
    rig.wait_for(8).await;
    rig.end().await;
}
