//! What became of the jobs that were replayed.

use crate::{
    completions::{Completed, Options, Subscriber},
    config::RedisConfig,
    contract::Status,
    queue::QueueError,
};
use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// Follows the completions from before the first letter is moved.
pub(super) struct Outcomes {
    ended: mpsc::UnboundedReceiver<(u64, String)>,
    hasher: RandomState,
    awaited: HashSet<u64>,
    counts: BTreeMap<String, u64>,
}

impl Outcomes {
    pub(super) async fn follow(redis: &RedisConfig) -> Result<Self, QueueError> {
        let mut subscriber = Subscriber::start(redis, Options::default()).await?;
        let hasher = RandomState::new();
        let their_hasher = hasher.clone();
        // Unbounded in type only: replayed jobs that end while letters are still being moved.
        let (to, ended) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(batch) = subscriber.next().await {
                for completed in batch.iter().filter(|completed| completed.event["replay"].is_u64()) {
                    if to.send((their_hasher.hash_one(&completed.id), outcome(completed))).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { ended, hasher, awaited: HashSet::new(), counts: BTreeMap::new() })
    }

    /// That job is under way again.
    pub(super) fn expect(&mut self, id: &str) {
        self.awaited.insert(self.hasher.hash_one(id));
    }

    /// Counts what has ended so far. Only after what was moved has been told with [`Self::expect`].
    pub(super) fn take_in(&mut self) {
        while let Ok((id, outcome)) = self.ended.try_recv() {
            self.count(id, outcome);
        }
    }

    fn count(&mut self, id: u64, outcome: String) {
        if self.awaited.remove(&id) {
            *self.counts.entry(outcome).or_default() += 1;
        }
    }

    /// Waits until all have ended, or so long.
    pub(super) async fn wait(&mut self, longest: Duration) {
        let deadline = Instant::now() + longest;
        while !self.awaited.is_empty() {
            match timeout_at(deadline, self.ended.recv()).await {
                Ok(Some((id, outcome))) => self.count(id, outcome),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// How many jobs are still under way.
    pub(super) fn outstanding(&self) -> usize {
        self.awaited.len()
    }

    /// How the others ended, by what they came to.
    pub(super) const fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}

/// `created`, or `failed: upstream`
fn outcome(completed: &Completed) -> String {
    let text = |pointer: &str| completed.event.pointer(pointer).and_then(serde_json::Value::as_str);
    match completed.status {
        Status::Succeeded => text("/outcome").unwrap_or("succeeded").to_owned(),
        status => format!("{}: {}", status.as_str(), text("/error/kind").unwrap_or("?")),
    }
}
