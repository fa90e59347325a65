//! The jobs and the worker that every measurement uses.

use secrecy::SecretString;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{Config, Limit, Rate},
    telemetry::Metrics,
    worker::{Stopped, Worker},
    xco::{Answer, Call, CallContext, CallReport, XcoApi},
};

/// Size of a job as the producer's JSON, in bytes.
pub(crate) const JOB_BYTES: usize = 300;

/// Number of callers, and so of limiter buckets, among which jobs are distributed.
pub(crate) const CALLERS: usize = 1000;

pub(crate) const LANE: &str = "{xco:0}:jobs:interactive";
pub(crate) const COMPLETIONS: &str = "{xco:0}:completions";

/// The email address of job `number`.
pub(crate) fn email(number: usize) -> String {
    format!("customer-{number:07}@example.com")
}

pub(crate) fn caller(number: usize) -> String {
    format!("198.51.100.{}-{:04}", number % 250, number % CALLERS)
}

/// A `CheckUser` of exactly [`JOB_BYTES`], with an id (so that duplicates are checked) and a caller.
pub(crate) fn check_user(prefix: &str, number: usize) -> String {
    let (email, caller) = (email(number), caller(number));
    let job = |pad: &str| {
        format!(
            r#"{{"type":"CheckUser","id":"{prefix}-{number:07}","caller_id":"{caller}","args":{{"email":"{email}"}},"meta":{{"session":"{pad}"}}}}"#
        )
    };
    let pad = "x".repeat(JOB_BYTES - job("").len());
    job(&pad)
}

/// Adds jobs to a stream, in pipelines of 1,000.
pub(crate) fn add(connection: &mut redis::Connection, stream: &str, jobs: impl IntoIterator<Item = String>) {
    let mut jobs = jobs.into_iter().peekable();
    while jobs.peek().is_some() {
        let mut pipeline = redis::pipe();
        for job in jobs.by_ref().take(1000) {
            pipeline.cmd("XADD").arg(stream).arg("*").arg("job").arg(job).ignore();
        }
        pipeline.query::<()>(connection).unwrap();
    }
}

/// Adds `count` jobs to the interactive lane.
pub(crate) fn preload(connection: &mut redis::Connection, prefix: &str, count: usize) {
    add(connection, LANE, (0..count).map(|number| check_user(prefix, number)));
}

/// Default configuration, except for the concurrency and for limits that are on and never reached: each caller may make
/// 100 calls a second, 1,000 at once (it has 100 jobs in a backlog of 100,000).
pub(crate) fn config(redis_url: &str, concurrency: usize) -> Config {
    let mut config = Config::default();
    config.redis.url = vec![SecretString::from(redis_url)];
    config.worker.concurrency = concurrency;
    config.limits.caller = Some(Limit { rate: Rate { interval_us: 10_000 }, burst: 1000 });
    config.completions.max_bytes = 8 << 30;
    config
}

/// A worker in its own runtime, as in `xco-worker run`, with metrics.
pub(crate) struct Running {
    runtime: tokio::runtime::Runtime,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<Stopped>,
}

impl Running {
    pub(crate) fn start<A: XcoApi>(config: Config, api: impl FnOnce(&Config) -> A) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let entered = runtime.enter();
        let api = Arc::new(api(&config));
        let worker = Worker::new(config, api, Metrics::new().unwrap()).unwrap();
        let worker = runtime.spawn(worker.run(stop.clone()));
        drop(entered);
        Self { runtime, stop, worker }
    }

    pub(crate) fn stop(self) {
        self.stop.cancel();
        let stopped = self.runtime.block_on(self.worker).unwrap();
        assert_eq!(stopped, Stopped { cut_off: 0, unwritten: 0, broken: false });
    }
}

/// Waits until the completion stream has `count` entries.
pub(crate) fn wait_for(connection: &mut redis::Connection, count: usize) {
    loop {
        let length: usize = redis::cmd("XLEN").arg(COMPLETIONS).query(connection).unwrap();
        if length >= count {
            assert_eq!(length, count, "a job was completed twice");
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that every job succeeded, none is left and none was delayed.
pub(crate) fn check_all_succeeded(connection: &mut redis::Connection, count: usize) {
    let stats: std::collections::BTreeMap<String, usize> =
        redis::cmd("HGETALL").arg("{xco:0}:stats").query(connection).unwrap();
    assert_eq!(stats, [("CheckUser:succeeded".to_owned(), count)].into());
    let left: usize = redis::cmd("XLEN").arg(LANE).query(connection).unwrap();
    let came_back: usize = redis::cmd("XINFO")
        .arg("STREAM")
        .arg("{xco:0}:due:interactive")
        .query::<std::collections::HashMap<String, redis::Value>>(connection)
        .map(|info| redis::from_redis_value(info["entries-added"].clone()).unwrap())
        .unwrap();
    assert_eq!((left, came_back), (0, 0), "jobs left, jobs that waited");
}

/// An XCO that answers at once.
#[derive(Debug)]
pub(crate) struct NoOp;

impl XcoApi for NoOp {
    async fn call<'a>(&'a self, _: Call<'a>, _: CallContext<'a>) -> CallReport {
        CallReport { result: Ok(Answer::Exists { exists: true, token_count: 2 }), calls: 1, elapsed: Duration::ZERO }
    }
}
