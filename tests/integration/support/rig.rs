//! Redis, sandbox and workers of one test, and the actions of a merchant. At its end it fails the test if something is
//! left over.

use super::{RedisServer, schema::assert_completion};
use redis::{AsyncCommands, Value as RedisValue, aio::MultiplexedConnection};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use xco_worker::{
    config::{Config, RedisConfig},
    contract::Lane,
    queue::{self, Connector, LaneJob},
    sandbox::{Sandbox, SandboxConfig},
    telemetry::Metrics,
    worker::{Stopped, Worker},
    xco::XcoClient,
};

pub(crate) const MERCHANT: &str = "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11";

/// What a test needs.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) redis: RedisServer,
    pub(crate) sandbox: SandboxConfig,
    pub(crate) config: Config,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        config.retry.base = Some(Duration::from_millis(20));
        config.retry.cap = Some(Duration::from_millis(200));
        config.worker.lease = Duration::from_secs(2);
        // Most 429s here are ordered and follow from no limit. A test of learning turns it on.
        config.limits.learn = false;
        config.worker.shutdown_grace = Duration::from_secs(5);
        config.xco.timeout = Duration::from_secs(2);
        config.redis.namespace = format!("test-{:08x}", rand::random::<u32>());
        Self { redis: RedisServer::start(), sandbox: SandboxConfig::default(), config }
    }
}

/// The running parts.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) redis: RedisServer,
    pub(crate) sandbox: Sandbox,
    pub(crate) config: Config,
    /// A connection with all permissions, for inspection.
    pub(crate) connection: MultiplexedConnection,
    /// Connection as the shop.
    producer: MultiplexedConnection,
    /// Connection as a reader of the completions.
    reader: MultiplexedConnection,
    workers: Vec<(CancellationToken, JoinHandle<Stopped>)>,
    last_seen: HashMap<u16, String>,
    /// Completions read so far, in order.
    pub(crate) completions: Vec<Value>,
}

impl Setup {
    /// Starts Redis and the sandbox, and one worker.
    pub(crate) async fn start(self) -> Rig {
        let mut rig = self.without_worker().await;
        rig.start_worker();
        rig
    }

    /// Starts Redis and the sandbox without a worker.
    pub(crate) async fn without_worker(self) -> Rig {
        let Self { redis, sandbox, mut config } = self;
        let sandbox = Sandbox::start(sandbox).await.unwrap();
        let defaults = SandboxConfig::default();
        config.redis.url = vec![SecretString::from(redis.url_as("worker"))];
        config.xco.base_url = Some(sandbox.base_url());
        config.xco.token_url = Some(sandbox.token_url());
        config.xco.client_id = Some(defaults.client_id);
        config.xco.client_secret = Some(SecretString::from(defaults.client_secret));
        if config.xco.merchant_id.is_none() {
            let text = format!("[xco]\nmerchant_id = \"{MERCHANT}\"");
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("merchant.toml");
            std::fs::write(&file, text).unwrap();
            let sources = xco_worker::config::Sources { file: Some(file), ..Default::default() };
            config.xco.merchant_id = xco_worker::config::load(&sources).unwrap().xco.merchant_id;
        }
        let connection = connect(redis.url()).await;
        let (producer, reader) = (connect(&redis.url_as("producer")).await, connect(&redis.url_as("reader")).await);
        Rig {
            redis,
            sandbox,
            config,
            connection,
            producer,
            reader,
            workers: Vec::new(),
            last_seen: HashMap::new(),
            completions: Vec::new(),
        }
    }
}

async fn connect(url: &str) -> MultiplexedConnection {
    let config = redis::AsyncConnectionConfig::new()
        .set_response_timeout(None)
        // A busy machine needs time.
        .set_connection_timeout(Some(Duration::from_secs(10)));
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

impl Rig {
    /// Configuration of the test's Redis for one of the users of `deploy/redis/users.acl`.
    pub(crate) fn redis_as(&self, user: &str) -> RedisConfig {
        RedisConfig { url: vec![SecretString::from(self.redis.url_as(user))], ..self.config.redis.clone() }
    }

    /// Starts one more worker in this process.
    pub(crate) fn start_worker(&mut self) {
        let api = Arc::new(XcoClient::new(&self.config.xco).unwrap());
        let worker = Worker::new(self.config.clone(), api, Metrics::default()).unwrap();
        let stop = CancellationToken::new();
        self.workers.push((stop.clone(), tokio::spawn(worker.run(stop))));
    }

    /// Stops all workers in order.
    pub(crate) async fn stop_workers(&mut self) -> Vec<Stopped> {
        let mut ended = Vec::new();
        for (stop, worker) in self.workers.drain(..) {
            stop.cancel();
            ended.push(worker.await.unwrap());
        }
        ended
    }

    /// Uses `redis` from now on, as after a failover: forgets the completions read before and reads them there again.
    /// Returns the former server.
    pub(crate) async fn move_to(&mut self, redis: RedisServer) -> RedisServer {
        self.connection = connect(redis.url()).await;
        self.producer = connect(&redis.url_as("producer")).await;
        self.reader = connect(&redis.url_as("reader")).await;
        self.completions.clear();
        self.last_seen.clear();
        std::mem::replace(&mut self.redis, redis)
    }

    /// A key of the given partition.
    pub(crate) fn key_in(&self, partition: u16, rest: &str) -> String {
        format!("{{{}:{partition}}}:{rest}", self.config.redis.namespace)
    }

    /// A key of partition 0.
    pub(crate) fn key(&self, rest: &str) -> String {
        self.key_in(0, rest)
    }

    /// Enqueues a job into the interactive lane of partition 0 with one `XADD`, as a merchant does.
    pub(crate) async fn enqueue(&mut self, job: &Value) -> String {
        self.enqueue_text("interactive", &job.to_string()).await
    }

    /// Enqueues any text with one `XADD`.
    pub(crate) async fn enqueue_text(&mut self, lane: &str, job: &str) -> String {
        let key = self.key(&format!("jobs:{lane}"));
        // The test may have broken the connection since.
        if redis::cmd("PING").query_async::<String>(&mut self.producer).await.is_err() {
            self.producer = connect(&self.redis.url_as("producer")).await;
        }
        self.producer.xadd(key, "*", &[("job", job)]).await.unwrap()
    }

    /// Adds many jobs to a lane of partition 0, in bounded pipelines.
    pub(crate) async fn enqueue_all(&mut self, lane: Lane, jobs: impl IntoIterator<Item = Value>) {
        let lane_job =
            |job: Value| LaneJob { lane, partition: 0, json: job.to_string(), has_id: job["id"].is_string() };
        let jobs: Vec<LaneJob> = jobs.into_iter().map(lane_job).collect();
        let mut link = Connector::new(&self.redis_as("producer")).unwrap().link(false);
        let replies = queue::enqueue(&mut link, &self.config.redis.namespace, &jobs.iter().collect::<Vec<_>>()).await;
        assert!(replies.error.is_none(), "{:?}", replies.error);
    }

    /// Reads completions until `done` accepts all those read so far. Fails after `seconds`.
    pub(crate) async fn follow(&mut self, seconds: u64, mut done: impl FnMut(&[Value]) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        let partitions = self.config.redis.partitions;
        while !done(&self.completions) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not in {seconds} s; {} completions, the last: {:#?}",
                self.completions.len(),
                self.completions.last()
            );
            let mut read = redis::cmd("XREAD");
            read.arg("BLOCK").arg(200).arg("COUNT").arg(1000).arg("STREAMS");
            for partition in partitions.numbers() {
                read.arg(self.key_in(partition, "completions"));
            }
            for partition in partitions.numbers() {
                read.arg(self.last_seen.get(&partition).cloned().unwrap_or_else(|| "0-0".to_owned()));
            }
            let reply: redis::streams::StreamReadReply = match read.query_async(&mut self.reader).await {
                Ok(Some(reply)) => reply,
                Ok(None) => continue,
                Err(_) => {
                    // The test is breaking Redis.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    for (user, connection) in [(None, &mut self.connection), (Some("reader"), &mut self.reader)] {
                        let url = user.map_or_else(|| self.redis.url().to_owned(), |user| self.redis.url_as(user));
                        if let Ok(client) = redis::Client::open(url)
                            && let Ok(open) = client.get_multiplexed_async_connection().await
                        {
                            *connection = open;
                        }
                    }
                    continue;
                }
            };
            for stream in reply.keys {
                let partition: u16 =
                    stream.key.split([':', '}']).nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
                for entry in stream.ids {
                    let field = |name: &str| -> String { redis::from_redis_value(entry.map[name].clone()).unwrap() };
                    let event: Value = serde_json::from_str(&field("event")).unwrap();
                    assert_completion(&event);
                    assert_eq!(event["id"], field("id"));
                    assert_eq!(event["status"], field("status"));
                    assert_eq!(event["type"].as_str().unwrap_or(""), field("type"));
                    self.completions.push(event);
                    self.last_seen.insert(partition, entry.id);
                }
            }
        }
    }

    /// Waits for `count` completions in total.
    pub(crate) async fn wait_for(&mut self, count: usize) -> &[Value] {
        self.follow(30, |completions| completions.len() >= count).await;
        &self.completions
    }

    /// Enqueues a job with an id and waits for its completion.
    pub(crate) async fn complete(&mut self, job: Value) -> Value {
        let id = job["id"].as_str().expect("a job with an id").to_owned();
        self.enqueue(&job).await;
        self.completion(&id).await
    }

    /// Waits for the completion of `id`.
    pub(crate) async fn completion(&mut self, id: &str) -> Value {
        self.follow(30, |completions| completions.iter().any(|event| event["id"] == id)).await;
        self.completions.iter().find(|event| event["id"] == id).unwrap().clone()
    }

    /// Asserts the invariant of every test, when all jobs have ended: completions are unique, no job is pending,
    /// delayed, marked or left in a lane, and no other key remains in the namespace.
    pub(crate) async fn assert_clean(&mut self) {
        let denials = self.denials().await;
        assert!(denials.is_empty(), "Redis forbade what somebody needed: {denials:#?}");
        // A job that operators replay ends once more for each replay.
        let mut counts: BTreeMap<(&str, u64), usize> = BTreeMap::new();
        for event in &self.completions {
            let replay = event["replay"].as_u64().unwrap_or(0);
            *counts.entry((event["id"].as_str().unwrap(), replay)).or_default() += 1;
        }
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "completed more than once: {twice:?}");
        for partition in self.config.redis.partitions.numbers() {
            for stream in ["jobs:interactive", "jobs:bulk", "due:interactive", "due:bulk"] {
                let key = self.key_in(partition, stream);
                let length: u64 = self.connection.xlen(&key).await.unwrap();
                assert_eq!(length, 0, "left in {key}");
                let pending: redis::RedisResult<RedisValue> =
                    redis::cmd("XPENDING").arg(&key).arg("workers").query_async(&mut self.connection).await;
                if let Ok(RedisValue::Array(summary)) = pending {
                    assert_eq!(summary[0], RedisValue::Int(0), "pending in {key}");
                }
            }
            let begun: BTreeMap<String, String> =
                self.connection.hgetall(self.key_in(partition, "begun")).await.unwrap();
            assert!(begun.is_empty(), "begun, and never ended: {begun:?}");
            for key in ["delayed", "delayed:jobs"] {
                let key = self.key_in(partition, key);
                let exists: bool = self.connection.exists(&key).await.unwrap();
                assert!(!exists, "{key} is left over");
            }
        }
        let pattern = format!("{{{}:*", self.config.redis.namespace);
        let keys: Vec<String> = self.connection.keys(pattern).await.unwrap();
        for key in keys {
            let known = [
                "jobs:interactive",
                "jobs:bulk",
                "due:interactive",
                "due:bulk",
                "completions",
                "dead",
                "stats",
                "edits",
                "audit",
                "meta",
                // Reserved ids, until they are forgotten.
                "index",
                "ids",
                // Rules, if the test ends before the workers have removed them.
                "control",
            ];
            let (_, rest) = key.split_once("}:").unwrap();
            if known.contains(&rest) {
                continue;
            }
            let life: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut self.connection).await.unwrap();
            // -2: it has expired since it was listed.
            assert!(life >= 0 || life == -2, "stray key {key}");
        }
    }

    /// Takes what Redis denied to this program's users since the last call, as `user: command or key`.
    pub(crate) async fn denials(&mut self) -> Vec<String> {
        if !self.redis.has_users() {
            return Vec::new();
        }
        let entries: Vec<HashMap<String, RedisValue>> =
            redis::cmd("ACL").arg("LOG").query_async(&mut self.connection).await.unwrap();
        let _: () = redis::cmd("ACL").arg("LOG").arg("RESET").query_async(&mut self.connection).await.unwrap();
        let text = |entry: &HashMap<String, RedisValue>, field: &str| {
            entry.get(field).and_then(|value| redis::from_redis_value::<String>(value.clone()).ok()).unwrap_or_default()
        };
        entries
            .iter()
            .map(|entry| {
                format!(
                    "{}: {} {} ({})",
                    text(entry, "username"),
                    text(entry, "reason"),
                    text(entry, "object"),
                    text(entry, "context")
                )
            })
            .filter(|denial| ["worker", "producer", "reader", "operator"].iter().any(|user| denial.starts_with(user)))
            .collect()
    }

    /// Stops the workers and asserts the invariants.
    pub(crate) async fn end(mut self) {
        let ended = self.stop_workers().await;
        for stopped in ended {
            assert_eq!(stopped, Stopped { cut_off: 0, unwritten: 0, broken: false });
        }
        self.follow(5, |_| true).await;
        self.assert_clean().await;
    }

    /// Reads all present completions, without waiting.
    pub(crate) async fn drain(&mut self) {
        let mut before = usize::MAX;
        while before != self.completions.len() {
            before = self.completions.len();
            let mut first = true;
            self.follow(5, |_| !std::mem::take(&mut first)).await;
        }
    }

    /// Waits until `probe` returns true. For events without a signal.
    pub(crate) async fn eventually(&mut self, what: &str, mut probe: impl AsyncFnMut(&mut Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !probe(self).await {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A `CheckUser` of an unknown customer.
pub(crate) fn check(id: &str, caller: &str) -> Value {
    json!({"id": id, "type": "CheckUser", "caller_id": caller, "args": {"email": format!("{id}@example.com")}})
}
