//! Completions as a stream that the members of a group share.

use super::error::ClientError;
use crate::{
    completions::{Acknowledger, Completed, Gap, Options, Subscriber},
    config::RedisConfig,
    operations::Error,
};
use futures::{Stream, stream};
use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// What a [`GroupStream`] yields.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupEvent {
    /// A completion for this member. Acknowledge it when it is processed.
    Completion(Completed),
    /// Completions were trimmed before the group read them.
    Gap(Gap),
}

/// A member's stream of completions. While Redis is away it waits. It ends after an error, which is one that waiting does
/// not cure. A completion may come more than once.
///
/// Dropping the stream leaves what it has not acknowledged to other members after `claim_after`; [`close`](Self::close)
/// leaves it to them at once.
pub struct GroupStream {
    events: Pin<Box<dyn Stream<Item = Result<GroupEvent, ClientError>> + Send>>,
    acknowledger: Acknowledger,
    redis: RedisConfig,
}

struct Reading {
    subscriber: Subscriber,
    redis: RedisConfig,
    waiting: VecDeque<GroupEvent>,
}

impl GroupStream {
    pub(super) async fn start(redis: &RedisConfig, options: Options) -> Result<Self, ClientError> {
        let subscriber = Subscriber::start(redis, options).await.map_err(|error| Error::queue(redis, error))?;
        let acknowledger = subscriber.acknowledger();
        let reading = Reading { subscriber, redis: redis.clone(), waiting: VecDeque::new() };
        let events = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(event) => Some((Ok(event), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Self { events: Box::pin(events), acknowledger, redis: redis.clone() })
    }

    /// Acknowledges a processed completion: it does not come again, to any member.
    ///
    /// # Errors
    /// Redis cannot be reached. The completion may come again.
    pub async fn acknowledge(&mut self, completion: &Completed) -> Result<(), ClientError> {
        let completions = std::slice::from_ref(completion);
        self.acknowledger.acknowledge(completions).await.map_err(|error| Error::queue(&self.redis, error).into())
    }

    /// Stops reading. Other members can take over at once what this one has not acknowledged.
    ///
    /// # Errors
    /// Redis cannot be reached. Other members then wait for `claim_after`.
    pub async fn close(self) -> Result<(), ClientError> {
        let Self { events, mut acknowledger, redis } = self;
        drop(events);
        acknowledger.hand_back().await.map_err(|error| Error::queue(&redis, error).into())
    }
}

impl Reading {
    async fn next(&mut self) -> Result<GroupEvent, ClientError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let batch = self.subscriber.next().await.map_err(|error| Error::queue(&self.redis, error))?;
            self.waiting.extend(self.subscriber.gaps().into_iter().map(GroupEvent::Gap));
            self.waiting.extend(batch.into_iter().map(GroupEvent::Completion));
        }
    }
}

impl Stream for GroupStream {
    type Item = Result<GroupEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }
}

impl fmt::Debug for GroupStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupStream").finish_non_exhaustive()
    }
}
