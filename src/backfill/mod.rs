//! Backfills: a merchant's existing customers, from files into XCO. Pure: files in, rows and jobs out.
//!
//! A row of a file becomes a `CheckUser` whose `next` is the customer's `CreateUser`. The job's id is `<batch>/<row>`, so that
//! a completion names its row.
//!
//! | file | |
//! |---|---|
//! | `identity` | batch, files and flags: how a later run recognises the same backfill |
//! | `stored` | the identity as Redis keeps it |
//! | `correction` | files with corrected rows, added to a backfill |
//! | `input`, `unpack` | bytes of a file: gzip, encodings, byte order marks |
//! | `window`, `csv`, `ndjson` | bytes → records, with the line that each begins in |
//! | `columns`, `mapping` | a CSV record → the texts of its columns → the `args` of a `CreateUser` |
//! | `propose`, `fold` | which columns the names of a header look like |
//! | `convert` | dates, phone numbers, words and countries → values as XCO reads them |
//! | `row_job` | `args` → the row's job, or the faults of the row |
//! | `dedupe` | the customers that a run has met |
//! | `fingerprint` | by what a later backfill recognises a customer |
//! | `row` | a row, and how files are written |
//! | `rows` | files → rows, with all of the above |
//! | `summary` | rows → counts, and the reasons of rejected rows |
//! | `outcome` | completions → the result of a row, in four bytes |
//! | `output`, `cell` | `FILE.rejected.csv` and `FILE.results.csv` |
//!
//! [`crate::operations::backfill`] enqueues the rows and collects their completions. Memory here is bounded by
//! [`BYTES_PER_ROW`] for each row, to find duplicates.

mod cell;
mod columns;
mod convert;
mod correction;
mod csv;
mod dedupe;
mod fingerprint;
mod fold;
mod identity;
mod input;
mod mapping;
mod ndjson;
mod outcome;
pub mod output;
mod propose;
mod row;
mod row_job;
mod rows;
#[cfg(test)]
mod rows_tests;
mod stored;
mod summary;
mod unpack;
mod window;

pub use columns::COLUMNS;
pub use convert::{Conversion, ConversionKind, Conversions, DateFormat, Example, MapValue, PhoneCountry};
pub use correction::Correction;
pub use dedupe::{BYTES_PER_ROW, RowPlace};
pub use fingerprint::Fingerprints;
pub use identity::{Identity, IdentityError, RowSource, file_digest};
pub use input::{Encoding, digest};
pub use mapping::{HeaderFault, Ignored, MapEntry};
pub use outcome::{OutcomeCounts, RowOutcome, RowResult, RowUpdate, row_update};
pub use propose::Proposal;
pub use row::{Format, Head, Input, Layout, Original, Part, Row, RowCounts, RowVerdict};
pub use row_job::{RowFault, Target};
pub use rows::{Rows, RowsError};
pub use stored::{describe_stored, stored_files, stored_merchant};
pub use summary::{Reason, Summary};
pub use window::MAX_ROW_BYTES;
