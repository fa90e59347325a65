//! The steps back of Redis's clock that this worker knows. The loop in `watcher` looks for them.

pub(super) mod watcher;

use crate::queue::clock_step::BackSteps;
use parking_lot::RwLock;
use std::sync::Arc;

/// A job whose time is further ahead than this when it is first read counts as from the future, in milliseconds.
pub(super) const FUTURE_MS: u64 = 1_000;

/// The backward steps of one partition's Redis that this worker knows.
#[derive(Debug, Default)]
pub(super) struct KnownSteps(RwLock<Arc<BackSteps>>);

impl KnownSteps {
    pub(super) fn all(&self) -> Arc<BackSteps> {
        Arc::clone(&self.0.read())
    }

    fn set(&self, steps: BackSteps) {
        *self.0.write() = Arc::new(steps);
    }
}
