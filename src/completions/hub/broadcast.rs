//! The reader of a hub: one subscriber for all feeds and expectations.

use super::shared::Shared;
use crate::{
    completions::{Completed, Gap, Options, Start, Subscriber},
    config::RedisConfig,
    contract::EntryId,
    net::Backoff,
    queue::{QueueError, cause},
};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// Completions in one batch. Feeds run between two batches, and each of them holds two.
const BATCH: usize = 128;

/// Maximum number of gaps whose next completion has not been read.
const MAX_GAPS: usize = 1024;

/// The delays between attempts to begin reading.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_millis(1600);

/// Reads until it is aborted.
pub(super) async fn run(redis: RedisConfig, shared: Arc<Shared>) {
    let mut reader = Reader { redis, shared, after: None, gaps: Vec::new() };
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    let mut is_reported = false;
    loop {
        let before = reader.after.clone();
        let Err(error) = reader.read().await;
        if reader.after != before {
            backoff.reset();
            is_reported = false;
        }
        if !std::mem::replace(&mut is_reported, true) {
            let reason = match &error {
                QueueError::Redis(error) => cause(error),
                other => other.to_string(),
            };
            tracing::warn!(reason, "completions cannot be followed; retrying");
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

struct Reader {
    redis: RedisConfig,
    shared: Arc<Shared>,
    /// The last entry read, by partition. `None` until the streams' ends are known.
    after: Option<Vec<EntryId>>,
    gaps: Vec<Gap>,
}

impl Reader {
    /// Reads from where it was. Returns when Redis refuses; lost connections are the subscriber's to mend.
    async fn read(&mut self) -> Result<Infallible, QueueError> {
        let after = match &self.after {
            Some(after) => after.clone(),
            None => self.shared.ends().await?,
        };
        let each = (0..).zip(after.iter().copied()).collect();
        let options = Options { start: Start::AfterEach(each), batch: BATCH, ..Options::default() };
        let mut subscriber = Subscriber::start(&self.redis, options).await?;
        if self.after.is_none() {
            self.shared.begin(&after);
            self.after = Some(after);
        }
        loop {
            let batch = subscriber.next().await?;
            let gaps = subscriber.gaps();
            if !gaps.is_empty() {
                self.shared.expectations.tell_gap();
            }
            self.gaps.extend(gaps);
            // More than one for a partition say no more than the first.
            self.gaps.truncate(MAX_GAPS);
            self.pass(&batch);
            self.shared.publish(batch, &mut self.gaps);
            // Feeds get their turn before the next batch.
            tokio::task::yield_now().await;
        }
    }

    fn pass(&mut self, batch: &[Completed]) {
        for completed in batch {
            let after = self.after.as_mut().and_then(|after| after.get_mut(usize::from(completed.partition)));
            if let Some(after) = after {
                *after = completed.entry_id;
            }
        }
    }
}
