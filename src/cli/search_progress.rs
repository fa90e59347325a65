//! The progress of a long search.

use super::say;
use crate::operations::Progress;
use std::{
    io::IsTerminal,
    sync::atomic::{AtomicU64, Ordering},
};

/// Number of entries between two lines.
const INTERVAL: u64 = 50_000;

/// Prints a line after every 50,000 entries, if stderr is a terminal.
pub(super) struct SearchProgress {
    prints: bool,
    seen: AtomicU64,
}

impl SearchProgress {
    pub(super) fn on_stderr() -> Self {
        Self { prints: std::io::stderr().is_terminal(), seen: AtomicU64::new(0) }
    }
}

impl Progress for SearchProgress {
    fn advance(&self, steps: u64) {
        let before = self.seen.fetch_add(steps, Ordering::Relaxed);
        let seen = before.saturating_add(steps);
        if self.prints && before / INTERVAL < seen / INTERVAL {
            say(&format!("{seen} jobs looked at …"));
        }
    }
}
