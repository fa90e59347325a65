//! Backfills: a merchant's existing customers, from files into XCO. Pure: files in, rows and jobs out.
//!
//! A row of a file becomes a `CheckUser` whose `next` is the customer's `CreateUser`. The job's id is `<batch>/<row>`, so that
//! a completion names its row.
//!
//! | file | |
//! |---|---|
//! | `identity` | batch, files and flags: how a later run recognises the same backfill |
//! | `input` | bytes of a file: gzip, encodings, byte order marks |
//! | `window`, `csv`, `ndjson` | bytes → records, with the line that each begins in |
//! | `mapping` | a CSV record → the `args` of a `CreateUser` |
//! | `row_job` | `args` → the row's job, or the faults of the row |
//! | `dedupe` | the customers that a run has met |
//! | `rows` | files → rows, with all of the above |
//! | `outcome` | completions → the result of a row, in four bytes |
//! | `output` | `FILE.rejected.csv` and `FILE.results.csv` |
//!
//! [`crate::operations::backfill`] enqueues the rows and collects their completions. Memory here is bounded by
//! [`BYTES_PER_ROW`] for each row, to find duplicates.

mod csv;
mod dedupe;
mod identity;
mod input;
mod mapping;
mod ndjson;
mod outcome;
pub mod output;
mod row_job;
mod rows;
mod window;

pub use csv::quoted;
pub use dedupe::BYTES_PER_ROW;
pub use identity::{Identity, IdentityError, RowSource, describe_stored, file_digest};
pub use input::{Encoding, digest};
pub use mapping::{COLUMNS, HeaderFault, MapEntry};
pub use outcome::{OutcomeCounts, RowOutcome, RowResult, RowUpdate, row_update};
pub use row_job::{RowFault, Target};
pub use rows::{Format, Layout, Row, RowCounts, RowVerdict, Rows, RowsError};
pub use window::MAX_ROW_BYTES;
