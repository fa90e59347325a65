//! The environment of every scene: its own Redis, a connection through the proxy and one without it, and jobs in
//! streams.

use crate::{sabotage::Proxy, support::RedisServer};
use rand::{Rng, SeedableRng, rngs::StdRng};
use redis::aio::MultiplexedConnection;
use secrecy::SecretString;
use std::time::{Duration, SystemTime};
use xco_worker::{
    config::RedisConfig,
    contract::{EntryId, Lane, Origin},
    queue::{Connector, GROUP, IdIndex, Keys, Link, Source, ensure_group},
};

const NAMESPACE: &str = "stage";
/// The consumer that has the deliveries.
pub(crate) const CONSUMER: &str = "worker-1";

/// Width of a slice of [`Stage::index`].
const SLICE_MS: u64 = 1_200_000;

/// The environment of one script, cleared before each run.
#[derive(Debug)]
pub(crate) struct Stage {
    _redis: RedisServer,
    pub(crate) proxy: Proxy,
    pub(crate) connection: MultiplexedConnection,
    connector: Connector,
    pub(crate) keys: Keys,
    pub(crate) rng: StdRng,
    /// A time a little in the past, the same for all runs, so that they can be compared.
    pub(crate) base_ms: u64,
    entries: u64,
}

/// A job in Redis, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) lane: Lane,
    pub(crate) source: Source,
    pub(crate) entry: EntryId,
    /// As text.
    pub(crate) origin: String,
    /// The job's JSON.
    pub(crate) text: String,
    pub(crate) state: String,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let redis = RedisServer::own(&["--save", "", "--appendonly", "no"]);
        let proxy = Proxy::start(redis.url(), 0).await;
        let client = redis::Client::open(redis.url()).unwrap();
        let config = RedisConfig { url: vec![SecretString::from(proxy.url())], ..RedisConfig::default() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self {
            connection: client.get_multiplexed_async_connection().await.unwrap(),
            _redis: redis,
            connector: Connector::new(&config).unwrap(),
            proxy,
            keys: Keys::new(NAMESPACE, 0),
            rng: StdRng::seed_from_u64(0),
            base_ms: u64::try_from(now.as_millis()).unwrap() - 10_000,
            entries: 0,
        }
    }

    /// Empties Redis and restarts the random choices from `seed`.
    pub(crate) async fn clear(&mut self, seed: u64) {
        self.proxy.calm();
        self.run::<()>(redis::cmd("FLUSHALL").arg("SYNC")).await;
        self.rng = StdRng::seed_from_u64(seed);
        self.keys = Keys::new(NAMESPACE, self.rng.random_range(0..2));
        self.entries = 0;
        ensure_group(&mut self.link(), &self.keys).await.unwrap();
    }

    /// A link through the proxy.
    pub(crate) fn link(&self) -> Link {
        self.connector.link(false)
    }

    /// Runs a command without the proxy.
    pub(crate) async fn run<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.connection.clone()).await.unwrap()
    }

    pub(crate) fn lane(&mut self) -> Lane {
        Lane::ALL[usize::from(self.rng.random_bool(0.4))]
    }

    /// A job that is not in Redis yet.
    pub(crate) fn job(&mut self, lane: Lane, source: Source) -> Job {
        self.entries += 1;
        let entry = EntryId { ms: self.base_ms + self.entries, seq: 0 };
        let origin = Origin { lane, partition: self.keys.partition, entry };
        let id = format!("j{}", self.entries);
        let text = format!(r#"{{"id":"{id}","type":"CheckUser","args":{{"email":"{id}@example.com"}}}}"#);
        let state = format!(r#"{{"o":"{origin}","a":1}}"#);
        Job { id, lane, source, entry, origin: origin.to_string(), text, state }
    }

    /// Jobs of one stream that are delivered to [`CONSUMER`].
    pub(crate) async fn delivered(&mut self, lane: Lane, source: Source, count: usize) -> Vec<Job> {
        let jobs: Vec<Job> = (0..count).map(|_| self.job(lane, source)).collect();
        let stream = self.keys.stream(lane, source).to_owned();
        for job in &jobs {
            let mut add = redis::cmd("XADD");
            add.arg(&stream).arg(job.entry.to_string()).arg("job").arg(&job.text);
            if source == Source::Due {
                add.arg("state").arg(&job.state);
            }
            self.run::<String>(&add).await;
        }
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(CONSUMER).arg("STREAMS").arg(&stream).arg(">");
        self.run::<redis::Value>(&read).await;
        jobs
    }

    /// Delays a job until `due_ms`, as a script does.
    pub(crate) async fn delay(&self, job: &Job, due_ms: u64) {
        let keys = &self.keys;
        self.run::<()>(redis::cmd("ZADD").arg(&keys.delayed).arg(due_ms).arg(&job.origin)).await;
        let body = format!("{}\n{}", job.state, job.text);
        self.run::<()>(redis::cmd("HSET").arg(&keys.delayed_jobs).arg(&job.origin).arg(body)).await;
    }

    /// How the index writes an origin.
    pub(crate) fn holder(origin: &str) -> String {
        format!("{}{}", &origin[..1], origin.rsplit(':').next().unwrap())
    }

    /// Reserves an id.
    pub(crate) async fn reserve(&self, id: &str, value: &str) {
        let slice = self.base_ms / SLICE_MS;
        let member = format!("{SLICE_MS}:{slice}");
        let ends_ms = (slice + 1) * SLICE_MS;
        self.run::<()>(redis::cmd("ZADD").arg(&self.keys.index).arg(ends_ms).arg(&member)).await;
        let key = self.keys.slice(&member);
        self.run::<()>(redis::cmd("HSET").arg(&key).arg(id).arg(value)).await;
        self.run::<()>(redis::cmd("EXPIRE").arg(&key).arg(600)).await;
    }

    /// Reserves an id as former versions did.
    pub(crate) async fn reserve_as_before(&self, id: &str, origin: &str) {
        let key = self.keys.former_id(id);
        self.run::<()>(redis::cmd("SET").arg(&key).arg(origin).arg("EX").arg(600)).await;
        let batch = [format!("@{}", self.base_ms), key];
        self.run::<()>(redis::cmd("RPUSH").arg(&self.keys.ids).arg(&batch)).await;
    }

    /// A time that does not come while a test runs, the same for all runs.
    pub(crate) fn far_ms(&self) -> u64 {
        self.base_ms + 86_400_000
    }

    /// An index with a window of an hour.
    pub(crate) const fn index() -> IdIndex {
        IdIndex::new(Duration::from_secs(3_600), Duration::ZERO)
    }
}
