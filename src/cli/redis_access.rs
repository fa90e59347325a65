//! Reaching Redis, and saying so when it cannot be reached.

use crate::{
    config::RedisConfig,
    operations::{Backend, Error},
    queue::{Link, QueueError},
};
pub(super) use crate::{operations::redis_place as shown, queue::cause as describe};
use redis::RedisError;

/// A link that has answered a `PING`.
pub(super) async fn connect(redis: &RedisConfig) -> anyhow::Result<Link> {
    Ok(Backend::connect(redis).await?.into_link())
}

/// The error, with where Redis was looked for and what to try.
pub(super) fn unreachable(redis: &RedisConfig, error: &RedisError) -> anyhow::Error {
    Error::redis(redis, error).into()
}

/// As [`unreachable`], for what the queue's own functions give.
pub(super) fn queue_error(redis: &RedisConfig, error: QueueError) -> anyhow::Error {
    Error::queue(redis, error).into()
}
