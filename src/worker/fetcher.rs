//! Reading a lane for as long as the worker runs.

use super::{intake::Intake, shared::Shared};
use crate::{
    contract::Lane,
    queue::{self, Link},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long a read waits on an empty lane. It is never cut off (that would lose what it was just given), so a stop waits
/// for it.
const BLOCK: Duration = Duration::from_millis(250);

/// The most one read takes of each of a lane's streams.
const MAX_READ: usize = 256;

/// Reads one lane of one partition.
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    partition: usize,
    lane: Lane,
    link: Link,
    intake: Intake,
    stop: CancellationToken,
    batch: usize,
}

impl Fetcher {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: usize,
        lane: Lane,
        intake: Intake,
        stop: CancellationToken,
        concurrency: usize,
    ) -> Self {
        let link = shared.connector.link(true);
        // A full worker reads when an eighth of its slots have come free: one round trip for several jobs.
        let batch = (concurrency / 8).clamp(1, 64);
        Self { shared, partition, lane, link, intake, stop, batch }
    }

    /// Reads until stopped.
    pub(super) async fn run(mut self) {
        let mut more = false;
        while !self.stop.is_cancelled() {
            let batch = if more { self.batch } else { 1 };
            let count = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                count = self.shared.slots.available(self.lane, batch) => count.min(MAX_READ),
            };
            let keys = &self.shared.partitions[self.partition].keys;
            let asked_at_ms = self.shared.clock.elapsed_ms();
            match queue::read_lane(&mut self.link, keys, self.lane, &self.shared.consumer, count, Some(BLOCK)).await {
                Ok(entries) => {
                    self.shared.health.well();
                    more = entries.len() >= count;
                    if !entries.is_empty() {
                        // A blocked read was answered just now; the lease counts from the answer, not from the question.
                        let asked_at_ms = if more { asked_at_ms } else { self.shared.clock.elapsed_ms() };
                        self.intake.take(entries, asked_at_ms).await;
                    }
                }
                Err(error) => self.recover(&error).await,
            }
        }
    }

    async fn recover(&mut self, error: &redis::RedisError) {
        if error.code() == Some("NOGROUP") {
            // A new stream, or somebody removed the group or emptied the database.
            let keys = &self.shared.partitions[self.partition].keys;
            if queue::ensure_group(&mut self.link, keys).await.is_ok() {
                return;
            }
        }
        self.shared.metrics.redis_error("read");
        let wait = self.shared.health.ill("read", error);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
