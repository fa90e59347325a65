//! The files that a backfill reads and writes.

use crate::backfill::{Rows, output};
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
    /// The files that are read, with those that are written. `results`: with result files, which may have the batch's name.
    pub(super) fn of(rows: &Rows, results: Option<Option<&str>>) -> Vec<Self> {
        let last = rows.inputs().last().map_or(0, |input| input.part);
        let files = rows.inputs().iter().map(|input| Self {
            file: input.path.clone(),
            rejected: (input.part == last).then(|| output::rejected(input)),
            results: results.filter(|_| input.part == 0).map(|of_batch| output::results(&input.path, of_batch)),
        });
        files.collect()
    }
}
