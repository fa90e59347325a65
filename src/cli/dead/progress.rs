//! The progress of a replay or a discard, as one line on a terminal that is updated.

use crate::{cli::say, operations::Progress};
use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Minimum time between two drawings.
const INTERVAL: Duration = Duration::from_millis(500);

/// Draws `20 of 300 replayed` on stderr if stderr is a terminal. Dropping it removes the line.
pub(super) struct ProgressLine {
    /// The word for what is done: `replayed`.
    done: &'static str,
    /// Whether notes are printed.
    notes: bool,
    draws: bool,
    state: Mutex<ProgressState>,
}

struct ProgressState {
    total: u64,
    steps: u64,
    drawn: Option<Instant>,
    begun: Instant,
}

impl ProgressLine {
    pub(super) fn new(done: &'static str, notes: bool) -> Self {
        let state = ProgressState { total: 0, steps: 0, drawn: None, begun: Instant::now() };
        Self { done, notes, draws: io::stderr().is_terminal(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if self.state().drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

impl Progress for ProgressLine {
    fn set_total(&self, total: u64) {
        self.state().total = total;
    }

    fn advance(&self, steps: u64) {
        let mut state = self.state();
        state.steps += steps;
        if self.draws && state.drawn.unwrap_or(state.begun).elapsed() > INTERVAL {
            state.drawn = Some(Instant::now());
            let _ = write!(io::stderr(), "\r{} of {} {} ", state.steps, state.total, self.done);
        }
    }

    fn note(&self, line: &str) {
        self.clear();
        if self.notes {
            say(line);
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}
