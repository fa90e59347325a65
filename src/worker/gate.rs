//! Decides whether work may start: only if Redis permits every command, and every key has the right type.
//!
//! A command that Redis forbids, or a key of a wrong type, would be met in the middle of a job. So all of it is checked
//! before ([`crate::queue::preflight`]), by the loop in `keeper`. While the gate is closed no job is read and none is taken over; what is under way goes on and ends.

pub(super) mod keeper;

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether jobs may be read and started. Closed until the first check has passed.
#[derive(Debug)]
pub(super) struct Gate {
    /// Copy of `state` that costs one atomic load.
    open: AtomicBool,
    state: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: AtomicBool::new(false), state: watch::Sender::new(false) }
    }
}

impl Gate {
    /// Whether work may start.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until work may start. Returns false if `stop` came first.
    pub(super) async fn opened(&self, stop: &CancellationToken) -> bool {
        if self.is_open() {
            return true;
        }
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            opened = state.wait_for(|open| *open) => opened.is_ok(),
        }
    }

    fn set(&self, open: bool) {
        self.open.store(open, Ordering::Release);
        self.state.send_replace(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_closed_at_first_and_lets_everybody_through_once_open() {
        let gate = Gate::default();
        let stop = CancellationToken::new();
        assert!(!gate.is_open());
        let (let_through, ()) = tokio::join!(gate.opened(&stop), async { gate.set(true) });
        assert!(let_through && gate.is_open());
        gate.set(false);
        let (let_through, ()) = tokio::join!(gate.opened(&stop), async { stop.cancel() });
        assert!(!let_through);
    }
}
