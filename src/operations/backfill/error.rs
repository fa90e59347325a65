//! Why a backfill failed.

use crate::{
    backfill::{IdentityError, RowsError, output::OutputError},
    operations::Error,
};

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
            Self::OtherBackfill { .. } => {
                Some("give what it was begun with, unchanged, or another name with `--batch`")
            }
            Self::UnknownBatch(_) => Some("a backfill is remembered for 30 days after its last sign of life"),
            Self::Rows(RowsError::Io { .. })
            | Self::Identity(_)
            | Self::Output(_)
            | Self::Reader(_)
            | Self::Counts(_) => None,
        }
    }

    /// Whether the flags or files are wrong (exit code 2), as opposed to a failure during the work.
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Identity(error) => error.is_usage(),
            Self::Rows(RowsError::Header { .. }) | Self::OtherBackfill { .. } => true,
            _ => false,
        }
    }
}
