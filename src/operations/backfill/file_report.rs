//! The files that a backfill reads and writes.

use crate::backfill::{Input, Rows, output};
use serde::Serialize;
use std::path::PathBuf;

/// A file, and the files that a backfill writes beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file that was read.
    pub file: PathBuf,
    /// The file of its rows that are not enqueued. Absent after a correction: the rows are in the file of the correction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<PathBuf>,
    /// The file of its rows' outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<PathBuf>,
}

impl FileReport {
    /// The files that are read, with the files of their rejected rows.
    pub(super) fn of(rows: &Rows) -> Vec<Self> {
        Self::listed(rows, |_| None)
    }

    /// The files that are read, with all that are written. A result file has the batch's name if `of_batch` is set.
    pub(super) fn with_results(rows: &Rows, of_batch: Option<&str>) -> Vec<Self> {
        Self::listed(rows, |input| Some(output::results(&input.path, of_batch)))
    }

    fn listed(rows: &Rows, results: impl Fn(&Input) -> Option<PathBuf>) -> Vec<Self> {
        let last = rows.inputs().last().map_or(0, |input| input.part);
        let files = rows.inputs().iter().map(|input| Self {
            file: input.path.clone(),
            rejected: (input.part == last).then(|| output::rejected(input)),
            results: results(input).filter(|_| input.part == 0),
        });
        files.collect()
    }
}
