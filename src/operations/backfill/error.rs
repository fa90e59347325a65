//! Why a backfill failed.

use super::MaxRejected;
use crate::{
    backfill::{IdentityError, RowsError, output::OutputError},
    operations::Error,
    queue::backfill::MAX_CORRECTIONS,
};
use std::path::PathBuf;

/// Why a backfill failed.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// Redis cannot be used.
    #[error(transparent)]
    Backend(#[from] Error),
    /// The files or flags cannot identify a backfill.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The rows of a file cannot be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A file of results or rejected rows cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The batch belongs to a backfill of other files, or with other flags.
    #[error("the batch {batch} was begun with other files or flags: {begun_with}")]
    OtherBackfill {
        /// The batch.
        batch: String,
        /// The files and flags that it was started with.
        begun_with: String,
    },
    /// A file of a new batch is that of another batch, with another content.
    #[error("{} is a file of the batch {batch}, and is not what it was: its customers would be looked up again", file.display())]
    KnownFile {
        /// The file.
        file: PathBuf,
        /// The other batch.
        batch: String,
    },
    /// Another correction of the batch was given at the same time.
    #[error("the batch {0} was corrected by another run meanwhile")]
    CorrectedMeanwhile(String),
    /// The batch has as many corrections as it may have.
    #[error("the batch has {MAX_CORRECTIONS} corrections, and no more are possible")]
    TooManyCorrections,
    /// More rows are rejected than allowed. Nothing was enqueued.
    #[error("{rejected} of {rows} rows are rejected, and at most {max} may be: nothing was enqueued")]
    TooManyRejected {
        /// Number of rejected rows.
        rejected: u64,
        /// Number of rows.
        rows: u64,
        /// Number or share of rows that may be rejected.
        max: MaxRejected,
    },
    /// No backfill has this batch.
    #[error("no batch {0} is known")]
    UnknownBatch(String),
    /// The thread that reads the files has ended early.
    #[error("reading the files ended early: {0}")]
    Reader(#[from] tokio::task::JoinError),
    /// The counts of the rows cannot be stored.
    #[error("the counts of the rows cannot be stored: {0}")]
    Counts(#[from] serde_json::Error),
}

impl BackfillError {
    /// The remedy, if one is known.
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Backend(error) => error.remedy(),
            Self::Rows(RowsError::Header { .. }) => {
                Some("`--map email=E-Mail` says what a column is called, `--delimiter` the character between cells")
            }
            Self::OtherBackfill { .. } => Some(
                "give what it was begun with, unchanged, or another name with `--batch`; `--correct` adds corrected rows",
            ),
            Self::UnknownBatch(_) => Some("a backfill is remembered for 30 days after its last sign of life"),
            Self::TooManyRejected { .. } => Some("the rejected rows are in FILE.rejected.csv, each with its reason"),
            Self::KnownFile { .. } => Some(
                "give the corrected rows alone, in another file, with `--correct BATCH`; `--batch NAME` begins a new batch",
            ),
            Self::CorrectedMeanwhile(_) => Some("give the correction once more"),
            Self::Identity(IdentityError::FilesChanged) => Some(
                "undo the change, and correct the rows in the newest FILE.rejected.csv or in a file of another name: \
                 `--correct BATCH` adds them",
            ),
            Self::Rows(RowsError::Io { .. })
            | Self::Identity(_)
            | Self::TooManyCorrections
            | Self::Output(_)
            | Self::Reader(_)
            | Self::Counts(_) => None,
        }
    }

    /// Whether the flags or files are wrong (exit code 2), as opposed to a failure during the work.
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Identity(error) => error.is_usage(),
            Self::Rows(RowsError::Header { .. }) | Self::OtherBackfill { .. } | Self::KnownFile { .. } => true,
            _ => false,
        }
    }
}
