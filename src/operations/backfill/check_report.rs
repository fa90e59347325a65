//! What the files of a backfill hold.

use super::{BackfillError, MaxRejected, file_report::FileReport, sizing::Sizing, window::MAX_WINDOW};
use crate::{
    backfill::{Reason, RowCounts},
    config::Config,
};
use serde::Serialize;

/// What the files hold, after a check that enqueued nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The batch that the rows would belong to.
    pub batch: String,
    pub(super) dry_run: bool,
    /// Number of rows by verdict.
    #[serde(flatten)]
    pub counts: RowCounts,
    /// Why rows are not enqueued, the most frequent reason first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Each file, with the file of its rejected rows.
    pub files: Vec<FileReport>,
    /// How much the backfill will take; see [`CheckReport::size`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizing: Option<Sizing>,
    /// Bytes of the jobs of valid rows.
    #[serde(skip)]
    pub(super) job_bytes: u64,
}

impl CheckReport {
    /// Adds how much the backfill will take with this configuration.
    #[must_use]
    pub fn size(mut self, window: Option<u64>, config: &Config) -> Self {
        self.sizing = Some(Sizing::new(self.counts, self.job_bytes, window.unwrap_or(MAX_WINDOW), config));
        self
    }

    /// Checks that not too many rows are rejected.
    ///
    /// # Errors
    /// [`BackfillError::TooManyRejected`].
    pub fn require(&self, max_rejected: Option<MaxRejected>) -> Result<(), BackfillError> {
        let RowCounts { rows, rejected, .. } = self.counts;
        match max_rejected.filter(|max| !max.allows(rejected, rows)) {
            Some(max) => Err(BackfillError::TooManyRejected { rejected, rows, max }),
            None => Ok(()),
        }
    }
}
