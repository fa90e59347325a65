//! What a process that works on a run has counted so far.

use super::record::Counts;
use crate::operations::{Progress, dead_letters::replayer::StepCounts};
use tokio::sync::watch;

/// Publishes how many dead letters were removed.
#[derive(Debug)]
pub(super) struct Removed(watch::Sender<StepCounts>);

impl Removed {
    pub(super) const fn publishing_to(counts: watch::Sender<StepCounts>) -> Self {
        Self(counts)
    }
}

impl Progress for Removed {
    fn advance(&self, steps: u64) {
        self.0.send_modify(|counts| counts.tally.replayed += steps);
    }
}

/// The counts of a run: those before this process, and its own.
pub(super) fn sum(before: &Counts, own: &StepCounts) -> Counts {
    let mut outcomes = before.outcomes.clone();
    for (outcome, count) in &own.outcomes {
        *outcomes.entry(outcome.clone()).or_default() += count;
    }
    Counts {
        done: before.done.saturating_add(own.tally.replayed),
        gone: before.gone.saturating_add(own.tally.gone),
        superseded: before.superseded.saturating_add(own.tally.superseded),
        outcomes,
        outstanding: u64::try_from(own.outstanding).unwrap_or(u64::MAX),
        at: own.at.or(before.at),
    }
}
