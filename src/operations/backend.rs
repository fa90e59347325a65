//! The queue that operations work on.

use super::{Actor, Error};
use crate::{
    config::RedisConfig,
    queue::{Connector, Keys, Link, QueueError},
};
use redis::{RedisError, cmd};
use serde_json::Value;

/// The queue of one namespace, for a process that works on it all the time: [`Backend`]s that share a few connections.
#[derive(Debug)]
pub struct SharedBackend {
    connector: Connector,
    redis: RedisConfig,
}

impl SharedBackend {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::RedisUrl`] where `redis.url` makes no client.
    pub fn new(redis: &RedisConfig) -> Result<Self, Error> {
        Ok(Self { connector: Connector::new(redis)?, redis: redis.clone() })
    }

    /// Where Redis is, and how it is used.
    pub const fn redis(&self) -> &RedisConfig {
        &self.redis
    }

    /// For short commands. Many of them share one connection, and do not wait for each other's answers.
    pub fn backend(&self) -> Backend<'_> {
        self.sharing("operations")
    }

    /// For long scans, whose answers would delay those of short commands.
    pub fn backend_for_scans(&self) -> Backend<'_> {
        self.sharing("scans")
    }

    fn sharing(&self, kind: &'static str) -> Backend<'_> {
        let link = self.connector.shared_link(kind, 0, false);
        Backend { link, connector: self.connector.clone(), redis: &self.redis }
    }

    /// Asks Redis for an answer.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn ping(&self) -> Result<(), Error> {
        let mut backend = self.backend();
        let failed = backend.failed();
        backend.link.query::<String>(&cmd("PING")).await.map(drop).map_err(failed)
    }
}

/// A connection to the queue of one namespace.
#[derive(Debug)]
pub struct Backend<'a> {
    pub(super) link: Link,
    connector: Connector,
    redis: &'a RedisConfig,
}

impl<'a> Backend<'a> {
    /// Connects, and waits for an answer to a `PING`.
    ///
    /// # Errors
    /// [`Error::Redis`] where Redis does not answer, [`Error::RedisUrl`] where `redis.url` makes no client.
    pub async fn connect(redis: &'a RedisConfig) -> Result<Self, Error> {
        let connector = Connector::new(redis)?;
        let mut link = connector.link(false);
        match link.query::<String>(&cmd("PING")).await {
            Ok(_) => Ok(Self { link, connector, redis }),
            Err(error) => Err(Error::redis(redis, &error)),
        }
    }

    /// One more connection to the same queue, made when it is first used.
    pub(super) fn another_link(&self) -> Link {
        self.connector.link(false)
    }

    /// Where Redis is, and how it is used.
    pub(super) const fn redis(&self) -> &'a RedisConfig {
        self.redis
    }

    /// The keys of every partition, by number.
    pub(super) fn keys(&self) -> Vec<Keys> {
        self.redis.partitions.numbers().map(|partition| Keys::new(self.namespace(), partition)).collect()
    }

    /// What Redis keys begin with.
    pub(super) const fn namespace(&self) -> &'a str {
        self.redis.namespace.as_str()
    }

    /// The number of partitions of the queue; at least 1.
    pub(super) const fn partitions(&self) -> u16 {
        self.redis.partitions.get()
    }

    /// The names of one partition's keys.
    pub(super) fn keys_of(&self, partition: u16) -> Keys {
        Keys::new(self.namespace(), partition)
    }

    /// The keys of partition 0, which holds what belongs to no partition: rules, audit.
    pub(super) fn common_keys(&self) -> Keys {
        Keys::new(self.namespace(), 0)
    }

    /// Writes an action into the audit stream: [`Actor::record`].
    pub(super) async fn record(&mut self, actor: &Actor, action: &str, what: &Value, count: u64) -> Result<(), Error> {
        let (namespace, failed) = (self.namespace(), self.failed());
        actor.record(&mut self.link, namespace, action, what, count).await.map_err(failed)
    }

    /// Makes an [`Error`] of Redis's, one that names the place.
    pub(super) fn failed(&self) -> impl Fn(RedisError) -> Error + use<'a> {
        let redis = self.redis;
        move |error| Error::redis(redis, &error)
    }

    /// Makes an [`Error`] of what the queue's functions give, one that names the place.
    pub(super) fn queue_failed(&self) -> impl Fn(QueueError) -> Error + use<'a> {
        let redis = self.redis;
        move |error| Error::queue(redis, error)
    }
}
