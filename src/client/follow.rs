//! Completions as a stream that every reader gets in full.

use super::error::ClientError;
use crate::{
    completions::{CompletionHub, Feed, FeedCursor, FeedEvent, FeedStart, Filter, HubCompletion},
    config::RedisConfig,
    contract::EntryId,
    operations::Error,
};
use futures::{Stream, stream};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// What a [`CompletionStream`] yields.
#[derive(Debug, Clone)]
pub enum CompletionEvent {
    /// A completion.
    Completion {
        /// Store it to continue after this completion: [`FeedStart::After`].
        cursor: FeedCursor,
        /// The completion.
        completion: Arc<HubCompletion>,
    },
    /// Completions may have been trimmed before they were read. A program that must not miss one has to find out in
    /// another way how those jobs ended.
    Gap {
        /// The partition of the completions.
        partition: u16,
        /// The first entry after the gap.
        lost_before: EntryId,
    },
}

/// A stream of completions. It never ends by itself: while Redis is away it waits, and when it has fallen behind it
/// catches up from Redis. It ends after an error, which is one that waiting does not cure. Each completion comes once, and
/// those of one partition come in order.
pub struct CompletionStream(Pin<Box<dyn Stream<Item = Result<CompletionEvent, ClientError>> + Send>>);

struct Reading {
    hub: CompletionHub,
    redis: RedisConfig,
    filter: Filter,
    feed: Feed,
}

impl CompletionStream {
    pub(super) async fn start(
        hub: &CompletionHub,
        redis: &RedisConfig,
        start: FeedStart,
        filter: Filter,
    ) -> Result<Self, ClientError> {
        let feed = hub.follow(start, filter.clone()).await?;
        let reading = Reading { hub: hub.clone(), redis: redis.clone(), filter, feed };
        let events = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(event) => Some((Ok(event), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Self(Box::pin(events)))
    }
}

impl Reading {
    async fn next(&mut self) -> Result<CompletionEvent, ClientError> {
        loop {
            match self.feed.next().await.map_err(|error| Error::queue(&self.redis, error))? {
                FeedEvent::Completion { cursor, completion } => {
                    return Ok(CompletionEvent::Completion { cursor, completion });
                }
                FeedEvent::Gap { partition, lost_before } => {
                    return Ok(CompletionEvent::Gap { partition, lost_before });
                }
                FeedEvent::TooSlow { resume } => {
                    self.feed = self.hub.follow(FeedStart::After(resume), self.filter.clone()).await?;
                }
            }
        }
    }
}

impl Stream for CompletionStream {
    type Item = Result<CompletionEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for CompletionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionStream").finish_non_exhaustive()
    }
}
