//! Checks of Redis before work starts: permission for every command, keys of the right type, matching settings.

use super::{
    commands::pointed,
    redis_users::self_test,
    support::{RedisServer, Rig, Setup, check},
};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use redis::{AsyncCommands, cmd};
use std::time::Duration;
use xco_worker::{contract::Partitions, queue::Keys, queue::Kind, telemetry::Metrics, worker::Worker, xco::XcoClient};

async fn acl(rig: &mut Rig, rules: &[&str]) {
    let mut set = cmd("ACL");
    set.arg("SETUSER").arg(rules);
    let () = set.query_async(&mut rig.connection).await.unwrap();
}

/// A worker and its readiness.
struct Watched {
    stop: tokio_util::sync::CancellationToken,
    task: tokio::task::JoinHandle<xco_worker::worker::Stopped>,
    state: tokio::sync::watch::Receiver<Result<(), String>>,
}

impl Watched {
    fn start(rig: &Rig) -> Self {
        let api = std::sync::Arc::new(XcoClient::new(&rig.config.xco).unwrap());
        let worker = Worker::new(rig.config.clone(), api, Metrics::default()).unwrap();
        let (state, stop) = (worker.health().watch(), tokio_util::sync::CancellationToken::new());
        Self { task: tokio::spawn(worker.run(stop.clone())), stop, state }
    }

    async fn until(&mut self, what: &str, holds: impl FnMut(&Result<(), String>) -> bool) {
        let seen = tokio::time::timeout(Duration::from_secs(20), self.state.wait_for(holds)).await.is_ok();
        assert!(seen, "never: {what}; {:?}", *self.state.borrow());
    }

    async fn not_ready(&mut self, because: &str) {
        self.until(because, |state| state.as_ref().is_err_and(|reason| reason.contains(because))).await;
    }

    async fn ready(&mut self) {
        self.until("ready", Result::is_ok).await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_begins_nothing_while_a_command_is_forbidden_and_names_it() {
    let commands: Vec<String> = self_test().into_iter().collect();
    assert!(commands.len() > 45, "{commands:?}");
    // Each command needs two checks, one second apart. Several are tested at once, each with its own Redis.
    let share = commands.len().div_ceil(8);
    futures::future::join_all(commands.chunks(share).map(begins_nothing_without)).await;
}

async fn begins_nothing_without(commands: &[String]) {
    let mut rig = Setup { redis: RedisServer::own(&["--save", ""]), ..Setup::default() }.without_worker().await;
    for (n, command) in commands.iter().enumerate() {
        acl(&mut rig, &["worker", &format!("-{command}")]).await;
        let id = format!("j{n}");
        rig.enqueue(&check(&id, &id)).await;
        let calls = rig.sandbox.stats().calls;
        let mut worker = Watched::start(&rig);
        let name = command.to_uppercase().replace('|', " ");
        worker.not_ready(&format!("Redis forbids {name} to user worker")).await;
        assert_eq!(rig.sandbox.stats().calls, calls, "nothing is begun without {name}");
        acl(&mut rig, &["worker", &format!("+{command}")]).await;
        worker.ready().await;
        rig.completion(&id).await;
        worker.stop().await;
    }
    assert!(!rig.denials().await.is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_fails_and_names_what_is_forbidden_and_what_is_no_lane() {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let stray = format!("{{{}:0}}:jobs:interactiv", rig.config.redis.namespace);
    let _: String = rig.connection.xadd(&stray, "*", &[("job", "{}")]).await.unwrap();
    let warned = format!("{{{}:0}}:jobs:interactive was meant", rig.config.redis.namespace);
    pointed(&folder, &rig).arg("doctor").assert().code(0).stdout(contains(warned));
    let _: u64 = rig.connection.del(&stray).await.unwrap();
    acl(&mut rig, &["operator", "-rpush"]).await;
    pointed(&folder, &rig)
        .arg("doctor")
        .assert()
        .code(1)
        .stdout(contains("Redis forbids RPUSH to user operator"))
        .stdout(contains("ACL SETUSER operator +rpush"));
    acl(&mut rig, &["operator", "+rpush"]).await;
    rig.denials().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_begins_nothing_while_a_key_is_of_another_type_and_names_it() {
    let mut rig = Setup::default().without_worker().await;
    let keys = Keys::new(&rig.config.redis.namespace, 0);
    let fixed: Vec<_> =
        keys.fixed().into_iter().filter(|key| key.is_for_jobs).map(|key| (key.name.to_owned(), key.kind)).collect();
    for (n, (key, kind)) in fixed.into_iter().enumerate() {
        assert_ne!(kind, Kind::Text);
        let kept = format!("{key}:kept");
        let _: redis::RedisResult<()> = rig.connection.rename(&key, &kept).await;
        let () = rig.connection.set(&key, "foreign").await.unwrap();
        let calls = rig.sandbox.stats().calls;
        let mut worker = Watched::start(&rig);
        worker.not_ready(&format!("{key} is a string, {kind} is needed")).await;
        assert_eq!(rig.sandbox.stats().calls, calls, "nothing is begun");
        let _: u64 = rig.connection.del(&key).await.unwrap();
        let _: redis::RedisResult<()> = rig.connection.rename(&kept, &key).await;
        worker.ready().await;
        let id = format!("j{n}");
        rig.enqueue(&check(&id, &id)).await;
        rig.completion(&id).await;
        worker.stop().await;
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_count_on_another_number_of_partitions_are_refused() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("a", "a")).await;
    rig.config.redis.partitions = Partitions::new(2).unwrap();
    let mut other = Watched::start(&rig);
    other.not_ready("redis.partitions is 2 here and 1").await;
    other.stop().await;
    rig.config.redis.partitions = Partitions::ONE;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_worker_does_not_work_on_a_redis_that_evicts() {
    let mut setup = Setup::default();
    setup.config.redis.strict = true;
    let mut rig = setup.without_worker().await;
    let policy = |value: &str| {
        let mut set = cmd("CONFIG");
        set.arg("SET").arg("maxmemory-policy").arg(value);
        set
    };
    let () = policy("allkeys-lru").query_async(&mut rig.connection).await.unwrap();
    let mut worker = Watched::start(&rig);
    worker.not_ready("maxmemory-policy is allkeys-lru").await;
    let () = policy("noeviction").query_async(&mut rig.connection).await.unwrap();
    worker.ready().await;
    worker.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_completion_stream_is_named_and_an_exhausted_lane_stops_nobody() {
    let mut rig = Setup::default().without_worker().await;
    let top = "18446744073709551615-18446744073709551615";
    for (key, forbids) in [("completions", true), ("jobs:bulk", false)] {
        let key = rig.key(key);
        let _: String = rig.connection.xadd(&key, top, &[("job", "{}")]).await.unwrap();
        let mut worker = Watched::start(&rig);
        if forbids {
            worker.not_ready(&format!("{key} takes no more entries")).await;
        } else {
            worker.ready().await;
        }
        worker.stop().await;
        let _: u64 = rig.connection.del(&key).await.unwrap();
    }
}

#[rstest::rstest]
#[case::of_a_clock_that_counts_microseconds("1795748202763061-0", "9999-12-31T23:59:59.999Z")]
#[case::of_a_day_to_come("4000000000000-7", "2096-10-02T07:06:40.000Z")]
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_whose_ids_lie_ahead_is_told_with_its_remedy_and_work_goes_on(#[case] id: &str, #[case] when: &str) {
    let mut rig = Setup::default().without_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let lane = rig.key("jobs:interactive");
    let ahead = format!("the ids of {lane} lie ahead of Redis's clock");
    rig.enqueue(&check("before", "192.0.2.1")).await;
    pointed(&folder, &rig).arg("doctor").assert().code(0).stdout(contains(&ahead).not());
    let job = check("ahead", "192.0.2.1").to_string();
    let _: String = rig.connection.xadd(&lane, id, &[("job", job)]).await.unwrap();
    let told = || contains(&ahead).and(contains(when)).and(contains("producers must give XADD the id `*`"));
    pointed(&folder, &rig).arg("doctor").assert().code(0).stdout(told());
    rig.start_worker();
    rig.enqueue(&check("after", "192.0.2.1")).await;
    rig.wait_for(3).await;
    // No entry is left, and new ids are still ahead.
    pointed(&folder, &rig).arg("doctor").assert().code(0).stdout(told());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_of_jobs_that_something_else_removed() {
    let mut rig = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    rig.complete(check("a", "192.0.2.1")).await;
    pointed(&folder, &rig).arg("doctor").assert().code(0).stdout(contains("no worker missed any"));
    rig.stop_workers().await;
    for n in 0..5 {
        rig.enqueue(&check(&format!("j{n}"), "192.0.2.1")).await;
    }
    let lane = rig.key("jobs:interactive");
    let trimmed: u64 = cmd("XTRIM").arg(&lane).arg("MAXLEN").arg(2).query_async(&mut rig.connection).await.unwrap();
    assert_eq!(trimmed, 3);
    rig.start_worker();
    rig.wait_for(3).await;
    let told = format!("3 were removed from lanes before they had ended, from {lane}");
    rig.eventually("doctor tells", async |rig: &mut Rig| {
        let output = pointed(&folder, rig).arg("doctor").assert().code(0).get_output().stdout.clone();
        String::from_utf8(output).unwrap().contains(&told)
    })
    .await;
    rig.end().await;
}
