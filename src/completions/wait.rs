//! [`Waiter`]: waits for one job.

use super::{Filter, Options, Start, Subscriber, gap::extent};
use crate::{
    config::RedisConfig,
    contract::{EntryId, look_into},
    net::Backoff,
    queue::{Connector, Keys, Link, QueueError, is_transient},
};
use redis::{RedisResult, cmd};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Waits for the completion of one job, which must be enqueued with `reply: true` *after* the waiter was created.
///
/// It waits at the job's reply list. If the connection is lost there, the reply may be lost, too. It then searches the
/// completion stream, from the end that the stream had when the waiter was created.
#[derive(Debug)]
pub struct Waiter {
    redis: RedisConfig,
    keys: Keys,
    link: Link,
    after: EntryId,
}

impl Waiter {
    /// Creates a waiter for a job's partition (see [`Job::partition_key`](crate::contract::Job::partition_key)).
    /// Connects to Redis.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached or refuses the commands.
    pub async fn new(redis: &RedisConfig, partition: u16) -> Result<Self, QueueError> {
        let connector = Connector::new(redis)?;
        let keys = Keys::new(&redis.namespace, partition);
        let after = extent(&mut connector.link(false), &keys).await?.last;
        Ok(Self { redis: redis.clone(), keys, link: connector.link(true), after })
    }

    /// End of the completion stream when the waiter was created.
    pub fn after(&self) -> EntryId {
        self.after
    }

    /// The event of the job's completion, or `None` if none came within `longest`.
    ///
    /// # Errors
    ///
    /// Redis refuses to read the reply or the completions. Lost connections are retried until then.
    pub async fn wait_for(mut self, id: &str, longest: Duration) -> Result<Option<Value>, QueueError> {
        let deadline = Instant::now() + longest;
        match self.reply(id, longest).await {
            Ok(reply) => Ok(reply.and_then(|text| look_into(&text))),
            Err(error) if is_transient(&error) => self.scan(id, deadline).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn reply(&mut self, id: &str, longest: Duration) -> RedisResult<Option<String>> {
        let mut command = cmd("BLPOP");
        // BLPOP takes 0 as "for ever".
        command.arg(self.keys.reply(id)).arg(longest.as_secs_f64().max(0.001));
        match timeout(longest + Duration::from_secs(1), self.link.query::<Option<(String, String)>>(&command)).await {
            Ok(popped) => Ok(popped?.map(|(_, event)| event)),
            Err(_) => Ok(None),
        }
    }

    async fn scan(self, id: &str, deadline: Instant) -> Result<Option<Value>, QueueError> {
        // Reads and filters the other partitions, too, because this path is rare.
        let options = Options {
            start: Start::After(self.after),
            filter: Filter { id: Some(id.to_owned()), ..Filter::default() },
            ..Options::default()
        };
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        while Instant::now() < deadline {
            let found =
                timeout_at(deadline, async { Subscriber::start(&self.redis, options.clone()).await?.next().await });
            match found.await {
                Err(_) => return Ok(None),
                Ok(Ok(found)) => return Ok(found.into_iter().next().map(|completed| completed.event)),
                Ok(Err(QueueError::Redis(error))) if is_transient(&error) => {
                    tokio::time::sleep(backoff.next_delay().min(deadline - Instant::now())).await;
                }
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}
