//! The operators' rules, as this worker knows them. The loop in `watcher` follows them.
//!
//! The rules are stored in one hash in Redis. A worker checks their version twice a second and keeps the last ones
//! while Redis is unreachable. Without rules, a job costs one look at a flag.

pub(super) mod watcher;

use super::redis_clock::RedisClock;
use crate::{contract::Lane, queue::workers, rules::RuleSet};
use parking_lot::RwLock;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_millis(500);

/// The rules in force.
#[derive(Debug)]
pub(super) struct LoadedRules {
    any: AtomicBool,
    rules: RwLock<(Arc<RuleSet>, Option<String>)>,
    /// Number of times that the rules were loaded.
    loads: signal::Sender<u64>,
}

impl Default for LoadedRules {
    fn default() -> Self {
        Self { any: AtomicBool::new(false), rules: RwLock::default(), loads: signal::Sender::new(0) }
    }
}

impl LoadedRules {
    /// Whether there are any rules. This is the only check that every batch of jobs costs.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.rules.read().0)
    }

    /// Version of the rules and of the overrides, for the heartbeat; `None` before they are loaded.
    pub(super) fn version(&self) -> Option<String> {
        self.rules.read().1.clone()
    }

    /// A receiver that is notified of every change.
    pub(super) fn changes(&self) -> signal::Receiver<u64> {
        self.loads.subscribe()
    }

    fn set(&self, rules: RuleSet, version: Option<&str>) {
        let any = !rules.is_empty();
        *self.rules.write() = (Arc::new(rules), Some(workers::loaded_rules(version)));
        self.any.store(any, Ordering::Release);
        self.loads.send_modify(|loads| *loads += 1);
    }

    /// Waits until the rules are known. Returns false if `stop` came first.
    pub(super) async fn loaded(&self, stop: &CancellationToken) -> bool {
        let mut loads = self.changes();
        tokio::select! {
            known = loads.wait_for(|loads| *loads > 0) => known.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Whether a pause forbids reading from a lane.
    pub(super) fn is_lane_paused(&self, lane: Lane, clock: &RedisClock) -> bool {
        self.any() && self.rules().lane_paused(lane, clock.now_ms()).is_some()
    }

    /// Waits until the lane is no longer paused.
    pub(super) async fn lane_resumed(&self, lane: Lane, clock: &RedisClock) {
        let mut changes = self.changes();
        while self.is_lane_paused(lane, clock) {
            // The pause may end by itself, on Redis's clock.
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }
}
