//! Counts the bytes that this worker has written to a partition's completions since they were last trimmed.

use crate::queue::{Finish, FinishOp, maintenance::LOOK_AFTER_PART};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Size of a completion without its event: its id, and the names and values of its fields.
const ENTRY_BYTES: usize = 100;

/// Bytes of completions, counted up to a share of `completions.max_bytes`.
#[derive(Debug)]
pub(super) struct CompletionBytes {
    bytes: AtomicU64,
    share: u64,
    many: Notify,
}

impl CompletionBytes {
    /// `max_bytes` is the maximum size of the partition's completions.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { bytes: AtomicU64::new(0), share: (max_bytes / LOOK_AFTER_PART).max(1), many: Notify::new() }
    }

    /// Counts the completions of a written batch.
    pub(super) fn count(&self, batch: &[Finish]) {
        let bytes: usize = batch
            .iter()
            .map(|finish| match &finish.op {
                FinishOp::Complete { event, .. } => event.len() + ENTRY_BYTES,
                _ => 0,
            })
            .sum();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= self.share {
            self.bytes.store(0, Ordering::Relaxed);
            self.many.notify_one();
        }
    }

    /// Returns when another share of the maximum size has been written.
    pub(super) async fn are_many(&self) {
        self.many.notified().await;
    }
}
