//! Backfills: enqueues the rows of files, collects their completions, and reports the outcome of each row.
//!
//! | file | |
//! |---|---|
//! | `start` | [`Backfill`]: opens the files, checks them, takes the batch over |
//! | `reader` | the thread that reads and checks rows |
//! | `feeder` | [`Feeder`]: enqueues rows as earlier rows end, within a window and at a rate |
//! | `collector` | completions → results of rows |
//! | `lost` | rows whose completions were trimmed before they were collected |
//! | `report` | [`report`]: totals, and `FILE.results.csv` |
//!
//! Redis holds all state. A run that is killed is continued by another run of the same files and flags: no row is enqueued
//! twice, and none is missed.

mod collector;
mod error;
mod feeder;
mod lost;
mod reader;
mod report;
mod start;
mod state;

pub use error::BackfillError;
pub use feeder::{Ending, Feeder};
pub use report::{BackfillReport, CountsReport, FileReport, report};
pub use start::{Backfill, CheckReport, FeedLimits};
pub use state::{BackfillProgress, BackfillState};

pub use crate::backfill::{
    Encoding, Format, Identity, IdentityError, Layout, MapEntry, RowCounts, RowSource, RowsError, file_digest,
};

use crate::{backfill::RowResult, queue::backfill::RESULT_BYTES};

const _: () = assert!(RowResult::BYTES == RESULT_BYTES, "both are the bytes of one result");
