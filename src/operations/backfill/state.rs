//! How far a run of a backfill is.

use super::Hindrance;
use crate::{
    backfill::RowCounts,
    operations::{NoProgress, Progress},
    queue::backfill::EndedRows,
};

/// How far a run of a backfill is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackfillState {
    /// The rows of all files.
    pub counts: RowCounts,
    /// Rows that have ended, in this run and in earlier ones.
    pub ended: u64,
    /// Of these, the rows without success.
    pub unsuccessful: u64,
    /// Rows whose customer is looked up, whether or not they have ended.
    pub looked_up: u64,
    /// What keeps the run from going faster.
    pub hindrance: Hindrance,
}

impl BackfillState {
    pub(super) const fn set_ended(&mut self, ended: EndedRows) {
        (self.ended, self.unsuccessful) = (ended.rows, ended.unsuccessful);
    }
}

/// Receives the progress of a backfill.
pub trait BackfillProgress: Progress {
    /// The run has come to `state`. It is called many times a second.
    fn show(&self, _state: &BackfillState) {}
}

impl BackfillProgress for NoProgress {}
