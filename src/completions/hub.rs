//! [`CompletionHub`]: one reader of the completions for everybody in a process.

mod broadcast;
mod catch_up;
mod cursor;
mod expectations;
mod feed;
mod ring;
mod shared;

pub use cursor::{FeedCursor, FeedStart, InvalidCursor, InvalidFeedStart};
pub use expectations::Expected;
pub use feed::{Feed, FeedEvent};
pub use ring::HubCompletion;

use super::{Filter, options::ZERO};
use crate::{config::RedisConfig, contract::EntryId, queue::QueueError};
use expectations::{MAX_EXPECTATIONS, Watching};
use shared::{ReaderTask, Shared};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// Reads the completions once, for any number of requests that wait for a job and of feeds that follow all jobs. Clones
/// share the reader. It ends when the last clone, expectation and feed is dropped.
///
/// The hub never gives up: while Redis is away it tries again, and then continues where it was.
#[derive(Debug, Clone)]
pub struct CompletionHub {
    shared: Arc<Shared>,
    task: Arc<ReaderTask>,
    /// How long a new feed waits for the hub to begin reading.
    patience: Duration,
}

/// Why a hub refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The maximum number of jobs is expected.
    #[error("{MAX_EXPECTATIONS} jobs are waited for, which is the maximum")]
    TooManyExpectations,
    /// Redis has not been reached since the hub was started.
    #[error("the completions cannot be read yet, because Redis has not been reached")]
    NotReading,
    /// The cursor is for more partitions than the queue has.
    #[error("the cursor is for {cursor} partitions, but the queue has {queue}")]
    ForeignCursor {
        /// Number of partitions in the cursor.
        cursor: usize,
        /// Number of partitions of the queue.
        queue: usize,
    },
}

impl CompletionHub {
    /// Starts a hub. It connects in the background, so this succeeds while Redis is away. Call it in a tokio runtime.
    ///
    /// # Errors
    /// `redis.url` or a file of `redis.tls` cannot be used.
    pub fn start(redis: &RedisConfig) -> Result<Self, QueueError> {
        let shared = Arc::new(Shared::new(redis)?);
        let task = tokio::spawn(broadcast::run(redis.clone(), Arc::clone(&shared)));
        let patience = redis.connect_timeout.saturating_add(redis.response_timeout);
        Ok(Self { shared, task: Arc::new(ReaderTask(task)), patience })
    }

    /// Waits at most `longest` until the hub reads. Returns whether it does. Once it does, this returns at once.
    pub async fn is_reading(&self, longest: Duration) -> bool {
        let mut end = self.shared.end.subscribe();
        timeout(longest, end.wait_for(Option::is_some)).await.is_ok_and(|begun| begun.is_ok())
    }

    /// Expects the completion of a job. Call it before the job is enqueued: then the completion cannot be missed.
    ///
    /// # Errors
    /// [`HubError::TooManyExpectations`]: there are 10,000.
    pub fn expect(&self, id: &str) -> Result<Expectation, HubError> {
        let (number, watching) = self.shared.expectations.register(id).ok_or(HubError::TooManyExpectations)?;
        Ok(Expectation {
            shared: Arc::clone(&self.shared),
            id: id.into(),
            number,
            watching,
            _task: Arc::clone(&self.task),
        })
    }

    /// Number of jobs that are expected now.
    pub fn expectations(&self) -> usize {
        self.shared.expectations.count()
    }

    /// Follows the completions that match `filter`.
    ///
    /// If the queue has more partitions than the cursor, the new ones are read from the beginning: they hold only
    /// completions that the cursor's reader has not seen.
    ///
    /// # Errors
    /// [`HubError::NotReading`]: Redis could not be reached within the configured timeouts.
    /// [`HubError::ForeignCursor`]: the cursor is for more partitions than there are.
    pub async fn follow(&self, start: FeedStart, filter: Filter) -> Result<Feed, HubError> {
        if !self.is_reading(self.patience).await {
            return Err(HubError::NotReading);
        }
        let partitions = self.shared.keys.len();
        let after = match start {
            FeedStart::Beginning => vec![ZERO; partitions],
            // The hub may be a moment behind Redis.
            FeedStart::Now => self.shared.ends().await.map_err(|_| HubError::NotReading)?,
            FeedStart::After(cursor) if cursor.after().len() > partitions => {
                return Err(HubError::ForeignCursor { cursor: cursor.after().len(), queue: partitions });
            }
            FeedStart::After(cursor) => {
                let mut after = cursor.after().to_vec();
                after.resize(partitions, ZERO);
                after
            }
            FeedStart::Since { ms } => vec![EntryId { ms, seq: 0 }.before().unwrap_or(ZERO); partitions],
        };
        Ok(Feed::new(Arc::clone(&self.shared), Arc::clone(&self.task), after, filter))
    }
}

/// A job whose completion is expected. Dropping it ends the expectation.
#[derive(Debug)]
pub struct Expectation {
    shared: Arc<Shared>,
    id: Box<str>,
    number: u64,
    watching: Watching,
    _task: Arc<ReaderTask>,
}

impl Expectation {
    /// Id of the job.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until `deadline` for the job's completion. Can be called again, for instance after [`Expected::Gap`], or if
    /// an earlier job of this id ended. Cancel-safe.
    pub async fn completion(&mut self, deadline: Instant) -> Expected {
        self.watching.completion(deadline).await
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.shared.expectations.unregister(&self.id, self.number);
    }
}
