//! Enqueueing through `operations`, without the binary.

use super::support::{RedisServer, Rig, Setup, check};
use redis::{AsyncCommands, streams::StreamRangeReply};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use xco_worker::{
    completions::CompletionHub,
    config::RedisConfig,
    contract::{Lane, Partitions, partition_of},
    operations::{
        Backend, Error, SharedBackend,
        enqueue::{
            self, Awaited, CheckedJob, EnqueueRequest, EnqueuedMany, InvalidJob, JobChecker, LineResult, NdjsonEnqueue,
        },
    },
};

fn checked(rig: &Rig, job: &Value) -> CheckedJob {
    let request = EnqueueRequest { json: &job.to_string(), lane: Lane::Interactive, id: None };
    JobChecker::new(&rig.config).check(request).unwrap()
}

/// The jobs in a lane, as they were written.
async fn lane(rig: &mut Rig, partition: u16, lane: Lane) -> Vec<String> {
    let key = rig.key_in(partition, &format!("jobs:{lane}"));
    let entries: StreamRangeReply = rig.connection.xrange_all(key).await.unwrap();
    entries.ids.iter().map(|entry| redis::from_redis_value(entry.map["job"].clone()).unwrap()).collect()
}

async fn connect(redis: &RedisConfig) -> Backend<'_> {
    Backend::connect(redis).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_enqueued_as_it_was_written_and_reported() {
    let mut rig = Setup::default().without_worker().await;
    let redis = rig.redis_as("producer");
    let mut backend = connect(&redis).await;
    let (job, anonymous) =
        (check("one", "c"), json!({"type": "CheckUser", "caller_id": "c", "args": {"email": "a@example.com"}}));
    let first = enqueue::add(&mut backend, &checked(&rig, &job)).await.unwrap();
    let second = enqueue::add(&mut backend, &checked(&rig, &anonymous)).await.unwrap();
    assert_eq!(lane(&mut rig, 0, Lane::Interactive).await, [job.to_string(), anonymous.to_string()]);
    assert_eq!(
        serde_json::to_value(&first).unwrap(),
        json!({"id": "one", "lane": "interactive", "partition": 0, "entry_id": first.entry_id.to_string()})
    );
    assert_eq!(second.id, format!("interactive:0:{}", second.entry_id));
    rig.start_worker();
    rig.wait_for(2).await;
    assert!(rig.completions.iter().any(|event| event["id"] == second.id), "{:#?}", rig.completions);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_go_to_their_partitions_and_are_reported_in_order() {
    let mut setup = Setup::default();
    setup.config.redis.partitions = Partitions::new(2).unwrap();
    let mut rig = setup.without_worker().await;
    let redis = rig.redis_as("producer");
    let mut backend = connect(&redis).await;
    let jobs: Vec<CheckedJob> =
        (0..600).map(|n| checked(&rig, &check(&format!("j{n}"), &format!("caller-{n}")))).collect();
    let EnqueuedMany { jobs: added, error } = enqueue::add_many(&mut backend, &jobs).await;
    assert!(error.is_none(), "{error:?}");
    for (n, job) in added.iter().enumerate() {
        let job = job.as_ref().unwrap();
        let partition = partition_of(&format!("caller-{n}"), Partitions::new(2).unwrap());
        assert_eq!((job.id.as_str(), job.partition), (format!("j{n}").as_str(), partition));
    }
    for partition in 0..2 {
        let wanted: Vec<&str> = jobs.iter().filter(|job| job.partition() == partition).map(CheckedJob::json).collect();
        assert!(wanted.len() > 256, "no second pipeline: {}", wanted.len());
        assert_eq!(lane(&mut rig, partition, Lane::Interactive).await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_is_waited_for_from_before_the_job_is_enqueued() {
    let mut rig = Setup::default().start().await;
    let redis = rig.redis_as("operator");
    let mut backend = connect(&redis).await;
    let silent = checked(&rig, &check("silent", "c"));
    let refused = enqueue::add_and_wait(&mut backend, &silent, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(Error::CannotWait)), "{refused:?}");
    let mut job = check("loud", "c");
    job["reply"] = json!(true);
    let job = checked(&rig, &job);
    let waited = enqueue::add_and_wait(&mut backend, &job, Duration::from_secs(30)).await.unwrap();
    let event = waited.completion.unwrap();
    assert_eq!((&event["id"], &event["outcome"]), (&json!("loud"), &json!("absent")));
    assert_eq!(waited.enqueued.id, "loud");
    // A duplicate gets the completion of the first job.
    let waited = enqueue::add_and_wait(&mut backend, &job, Duration::from_secs(30)).await.unwrap();
    assert_eq!(waited.completion, Some(event));
    assert!(waited.first_ms.is_some());
    rig.wait_for(1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_line_spoils_only_itself() {
    let mut rig = Setup::default().without_worker().await;
    let redis = rig.redis_as("producer");
    let mut backend = connect(&redis).await;
    let mut text = String::new();
    for n in 0..300 {
        let mut job = check(&format!("l{n}"), "c");
        job["lane"] = json!(if n % 2 == 0 { "bulk" } else { "interactive" });
        text.extend([job.to_string().as_str(), "\n\n"]);
    }
    text += "nonsense\n{\"type\":\"CheckUser\"}\n";
    let mut lines = NdjsonEnqueue::new(text.as_bytes(), JobChecker::new(&rig.config), Lane::Interactive);
    let mut results: Vec<LineResult> = Vec::new();
    while let Some(some) = lines.next(&mut backend).await.unwrap() {
        assert!(some.len() <= 256, "{}", some.len());
        results.extend(some);
    }
    assert_eq!(results.len(), 302);
    for (n, result) in results.iter().take(300).enumerate() {
        let job = result.result.as_ref().unwrap();
        assert_eq!((result.line, job.id.as_str()), (2 * n as u64 + 1, format!("l{n}").as_str()));
    }
    let faults: Vec<_> = results[300..].iter().map(|line| (line.line, line.result.as_ref().unwrap_err())).collect();
    assert!(matches!(&faults[..], [(601, InvalidJob::Faults(_)), (602, InvalidJob::Faults(_))]), "{faults:?}");
    assert_eq!(lane(&mut rig, 0, Lane::Bulk).await.len(), 150);
    assert_eq!(lane(&mut rig, 0, Lane::Interactive).await.len(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_jobs_with_an_id_are_sent_again() {
    let setup = Setup { redis: RedisServer::own(&["--save", ""]), ..Setup::default() };
    let mut rig = setup.without_worker().await;
    let redis = rig.redis_as("producer");
    let mut backend = connect(&redis).await;
    // No memory: an error that waiting can cure.
    let memory = |bytes: u32| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes);
        set
    };
    let () = memory(1).query_async(&mut rig.connection).await.unwrap();
    let anonymous = json!({"type": "CheckUser", "caller_id": "c", "args": {"email": "a@example.com"}});
    let refused = enqueue::add(&mut backend, &checked(&rig, &anonymous)).await;
    assert!(matches!(refused, Err(Error::Redis { .. })), "{refused:?}");
    let job = checked(&rig, &check("again", "c"));
    let began = Instant::now();
    let mut connection = rig.connection.clone();
    let (added, ()) = tokio::join!(enqueue::add(&mut backend, &job), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let () = memory(0).query_async(&mut connection).await.unwrap();
    });
    assert_eq!(added.unwrap().id, "again");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(lane(&mut rig, 0, Lane::Interactive).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_enqueued_before_is_awaited_on_the_shared_reader() {
    let mut rig = Setup::default().without_worker().await;
    let redis = rig.redis_as("operator");
    let hub = CompletionHub::start(&redis).unwrap();
    let shared = SharedBackend::new(&redis).unwrap();
    let wait = async |id: &str, longest: Duration| {
        enqueue::await_completion(&mut shared.backend(), &hub, id, 0, longest).await.unwrap()
    };
    let soon = Duration::from_millis(50);
    assert!(matches!(wait("one", soon).await, Awaited::Unknown));
    let job = checked(&rig, &check("one", "c"));
    enqueue::add(&mut shared.backend(), &job).await.unwrap();
    let (awaited, ()) = tokio::join!(wait("one", Duration::from_secs(30)), async {
        rig.start_worker();
        rig.completion("one").await;
    });
    assert!(matches!(&awaited, Awaited::Completion(found) if found.id == "one"), "{awaited:?}");
    // It has ended: no wait, and none is needed.
    assert!(
        matches!(wait("one", Duration::ZERO).await, Awaited::Completion(found) if found.event["outcome"] == "absent")
    );
    let mut later = check("later", "d");
    later["run_at"] =
        json!(xco_worker::contract::format_ms(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap() + 3_000));
    enqueue::add(&mut shared.backend(), &checked(&rig, &later)).await.unwrap();
    rig.eventually("a worker has seen the job", async |_| {
        matches!(wait("later", Duration::ZERO).await, Awaited::Pending)
    })
    .await;
    assert!(matches!(wait("later", Duration::from_secs(30)).await, Awaited::Completion(_)));
    let key = rig.key("completions");
    rig.wait_for(2).await;
    let _: usize = redis::cmd("XTRIM").arg(&key).arg("MAXLEN").arg(0).query_async(&mut rig.connection).await.unwrap();
    assert!(matches!(wait("one", Duration::from_secs(30)).await, Awaited::Trimmed));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_job_does_not_get_the_completion_of_the_rejected_one() {
    let mut rig = Setup::default().start().await;
    let redis = rig.redis_as("operator");
    let hub = CompletionHub::start(&redis).unwrap();
    let shared = SharedBackend::new(&redis).unwrap();
    let longest = Duration::from_secs(30);
    let anonymous = checked(&rig, &json!({"type": "CheckUser", "caller_id": "c", "args": {"email": "a@example.com"}}));
    let refused = enqueue::submit_and_wait(&mut shared.backend(), &hub, &anonymous, longest).await;
    assert!(matches!(refused, Err(Error::NoId)), "{refused:?}");
    let faulty = json!({"type": "CheckUser", "id": "x", "caller_id": "c", "args": {"email": "nonsense"}}).to_string();
    let job = checked(&rig, &check("x", "c"));
    // Both are enqueued at once, so the rejection may come while the corrected job is waited for.
    enqueue::add_unchecked(&mut shared.backend(), faulty, Lane::Interactive, 0, Some("x")).await.unwrap();
    // A completion names its job by id and by the millisecond in which it was enqueued.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let answer = enqueue::submit_and_wait(&mut shared.backend(), &hub, &job, longest).await.unwrap();
    let completion = answer.completion.unwrap();
    assert_eq!(completion.event["outcome"], "absent", "{}", completion.json());
    assert_eq!(answer.first_ms, None);
    rig.wait_for(2).await;
    // Two completions of one id, which `Rig::end` takes for a fault.
    rig.stop_workers().await;
}
