//! What a hub's handles, feeds and reader share.

use super::{
    expectations::Expectations,
    ring::{HubCompletion, Item, Ring},
};
use crate::{
    completions::{Completed, Gap, extent},
    config::RedisConfig,
    contract::EntryId,
    queue::{Connector, Keys, Link, QueueError},
};
use parking_lot::RwLock;
use redis::RedisResult;
use std::sync::Arc;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

/// Maximum number of pages that feeds read at once.
const MAX_PAGES: usize = 8;

#[derive(Debug)]
pub(super) struct Shared {
    /// `None` until the reader knows where the streams end.
    pub(super) ring: RwLock<Option<Ring>>,
    /// The number after the ring's last item. Also changes when reading begins.
    pub(super) end: watch::Sender<Option<u64>>,
    pub(super) expectations: Expectations,
    /// One permit for each page that is being read.
    pub(super) pages: Semaphore,
    pub(super) keys: Vec<Keys>,
    connector: Connector,
}

impl Shared {
    pub(super) fn new(redis: &RedisConfig) -> Result<Self, QueueError> {
        let partitions = redis.partitions.numbers();
        Ok(Self {
            ring: RwLock::new(None),
            end: watch::Sender::new(None),
            expectations: Expectations::default(),
            pages: Semaphore::new(MAX_PAGES),
            keys: partitions.map(|partition| Keys::new(&redis.namespace, partition)).collect(),
            connector: Connector::new(redis)?,
        })
    }

    /// A link on the connection that all feeds share.
    pub(super) fn link(&self) -> Link {
        self.connector.shared_link("completions", 0, false)
    }

    /// The last entry of each partition's stream.
    pub(super) async fn ends(&self) -> RedisResult<Vec<EntryId>> {
        let mut link = self.link();
        let mut ends = Vec::with_capacity(self.keys.len());
        for keys in &self.keys {
            ends.push(extent(&mut link, keys).await?.last);
        }
        Ok(ends)
    }

    /// Reading begins after these entries, by partition. Expectations registered before may have missed completions.
    pub(super) fn begin(&self, after: &[EntryId]) {
        *self.ring.write() = Some(Ring::new(after));
        // First: whoever sees that the hub reads has missed nothing.
        self.expectations.tell_gap();
        self.end.send_replace(Some(0));
    }

    /// Adds what was read. A gap stays in `gaps` until the completion after it is read.
    pub(super) fn publish(&self, batch: Vec<Completed>, gaps: &mut Vec<Gap>) {
        let mut items = Vec::with_capacity(batch.len());
        for completed in batch {
            let (partition, entry) = (completed.partition, completed.entry_id);
            let before = gaps.len();
            gaps.retain(|gap| gap.partition != partition || gap.after >= entry);
            if gaps.len() < before {
                items.push(Item::Gap { partition, lost_before: entry });
            }
            let completion = Arc::new(HubCompletion::new(completed));
            self.expectations.tell(&completion);
            items.push(Item::Completion(completion));
        }
        let end = {
            let mut ring = self.ring.write();
            let Some(ring) = ring.as_mut() else { return };
            for item in items {
                ring.push(item);
            }
            ring.end()
        };
        self.end.send_replace(Some(end));
    }
}

/// The reader's task. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct ReaderTask(pub(super) JoinHandle<()>);

impl Drop for ReaderTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
