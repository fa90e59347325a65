//! How the jobs that were replayed ended.

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

/// Follows the completions, from before the first dead letter is moved. It stops when it is dropped.
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
        // Bounded by the number of replayed jobs that end during one step of the replay.
        let (to, ended) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    batch = subscriber.next() => batch,
                    () = to.closed() => return,
                };
                let Ok(batch) = batch else { return };
                for completed in batch.iter().filter(|completed| completed.event["replay"].is_u64()) {
                    if to.send((their_hasher.hash_one(&completed.id), outcome(completed))).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { ended, hasher, awaited: HashSet::new(), counts: BTreeMap::new() })
    }

    /// The job of this id was replayed: its end is to be counted.
    pub(super) fn expect(&mut self, id: &str) {
        self.awaited.insert(self.hasher.hash_one(id));
    }

    /// Counts what has ended by now. Call it only after [`Self::expect`] for all that was moved: other ends are ignored.
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

    /// Waits until all have ended, at most this long.
    pub(super) async fn wait(&mut self, longest: Duration) {
        let deadline = Instant::now() + longest;
        while !self.awaited.is_empty() {
            match timeout_at(deadline, self.ended.recv()).await {
                Ok(Some((id, outcome))) => self.count(id, outcome),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// How many jobs have not ended yet.
    pub(super) fn outstanding(&self) -> usize {
        self.awaited.len()
    }

    /// How many jobs ended in which way so far.
    pub(super) const fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// How many jobs ended in which way.
    pub(super) fn into_counts(self) -> BTreeMap<String, u64> {
        self.counts
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
