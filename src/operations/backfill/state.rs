//! How far a run of a backfill is.

use crate::{
    backfill::RowCounts,
    operations::{NoProgress, Progress},
    queue::backfill::EndedRows,
};

/// How far a run of a backfill is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackfillState {
    /// The rows read so far.
    pub counts: RowCounts,
    /// Whether all rows are read.
    pub is_read: bool,
    /// Rows that have ended, in this run and in earlier ones.
    pub ended: u64,
    /// Of these, the rows without success.
    pub unsuccessful: u64,
    /// Bytes of the files read so far.
    pub bytes_read: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

impl BackfillState {
    /// The number of valid rows: exact once all rows are read, before that an estimate by the bytes to come. `None` if there is
    /// no estimate yet.
    pub fn expected(&self) -> Option<u64> {
        if self.is_read {
            return Some(self.counts.valid);
        }
        let expected = u128::from(self.counts.valid) * u128::from(self.bytes) / u128::from(self.bytes_read.max(1));
        u64::try_from(expected).ok().filter(|expected| *expected > 0)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_rows_is_estimated_by_bytes() {
        let counts = RowCounts { rows: 12, valid: 10, ..RowCounts::default() };
        let state = BackfillState { counts, bytes_read: 100, bytes: 1000, ..BackfillState::default() };
        assert_eq!(state.expected(), Some(100));
        assert_eq!(BackfillState { is_read: true, ..state }.expected(), Some(10));
        assert_eq!(BackfillState::default().expected(), None);
    }
}
