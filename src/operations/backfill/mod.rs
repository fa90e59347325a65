//! Backfills: enqueues the rows of files, collects their completions, and reports the outcome of each row.
//!
//! | file | |
//! |---|---|
//! | `start` | [`Backfill`]: opens the files, checks them, takes the batch over |
//! | `reader` | the thread that reads and checks rows |
//! | `feeder` | [`Feeder`]: enqueues rows as earlier rows end, within a window and at a rate |
//! | `collector` | completions → results of rows |
//! | `lost` | rows whose completions were trimmed before they were collected |
//! | `created_before` | customers that an earlier batch created |
//! | `window` | how many rows are in the queue at once |
//! | `hindrance` | what keeps a run from going faster: a pause, a limit, no worker |
//! | `results` | [`results_to`]: the results of rows as CSV, without the files |
//! | `report`, `list` | [`report`]: totals, and `FILE.results.csv`; [`list`](list()): all backfills |
//! | `sizing`, `max_rejected` | what a backfill will take; how many rows may be rejected |
//!
//! Redis holds all state. A run that is killed is continued by another run of the same files and flags: no row is enqueued
//! twice, and none is missed.

mod check_report;
mod collector;
mod created_before;
mod error;
mod feeder;
mod file_report;
mod hindrance;
mod list;
mod lost;
mod max_rejected;
mod reader;
mod report;
mod results;
mod sizing;
mod start;
mod state;
mod stored;
mod window;

pub use check_report::CheckReport;
pub use error::BackfillError;
pub use feeder::{Ending, Feeder};
pub use file_report::FileReport;
pub use hindrance::Hindrance;
pub(super) use list::running;
pub use list::{BackfillSummary, list, one};
pub use max_rejected::MaxRejected;
pub use report::{BackfillReport, CountsReport, report};
pub use results::results_to;
pub use sizing::Sizing;
pub use start::{Backfill, FeedLimits};
pub use state::{BackfillProgress, BackfillState};

pub use crate::backfill::{
    Conversion, ConversionKind, Conversions, Correction, DateFormat, Encoding, Example, Format, Identity,
    IdentityError, Ignored, Layout, MapEntry, MapValue, PhoneCountry, Proposal, Reason, RowCounts, RowSource,
    RowsError, file_digest,
};

use crate::{backfill::RowResult, queue::backfill::RESULT_BYTES};

const _: () = assert!(RowResult::BYTES == RESULT_BYTES, "both are the bytes of one result");
