//! The queue that operations work on.

use super::Error;
use crate::{
    config::RedisConfig,
    queue::{Connector, Keys, Link},
};
use redis::{RedisError, cmd};

/// A connection to the queue of one namespace.
#[derive(Debug)]
pub struct Backend<'a> {
    pub(super) link: Link,
    redis: &'a RedisConfig,
}

impl<'a> Backend<'a> {
    /// Connects, and waits for an answer to a `PING`.
    ///
    /// # Errors
    /// [`Error::Redis`] where Redis does not answer, [`Error::RedisUrl`] where `redis.url` makes no client.
    pub async fn connect(redis: &'a RedisConfig) -> Result<Self, Error> {
        let mut link = Connector::new(redis)?.link(false);
        match link.query::<String>(&cmd("PING")).await {
            Ok(_) => Ok(Self { link, redis }),
            Err(error) => Err(Error::redis(redis, &error)),
        }
    }

    /// Gives its connection up to a caller that has operations of its own.
    pub fn into_link(self) -> Link {
        self.link
    }

    /// What Redis keys begin with.
    pub(super) const fn namespace(&self) -> &'a str {
        self.redis.namespace.as_str()
    }

    /// The keys of partition 0, which holds what belongs to no partition: rules, audit.
    pub(super) fn common_keys(&self) -> Keys {
        Keys::new(self.namespace(), 0)
    }

    /// Makes an [`Error`] of Redis's, one that names the place.
    pub(super) fn failed(&self) -> impl Fn(RedisError) -> Error + use<'a> {
        let redis = self.redis;
        move |error| Error::redis(redis, &error)
    }
}
