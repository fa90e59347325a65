//! Backfills: a merchant's existing customers, from files into XCO.
//!
//! A row of a file becomes a `CheckUser` whose `next` is the customer's `CreateUser`; its job's id is `<batch>/<row>`, so
//! that a completion tells its row.
//!
//! | file | |
//! |---|---|
//! | `input` | bytes of a file: gzip, encodings, byte order marks |
//! | `window`, `csv`, `ndjson` | bytes → records, with the line that each begins in |
//! | `mapping` | a CSV record → a `CreateUser`'s `args` |
//! | `job` | `args` → the row's job, or what is wrong with the row |
//! | `seen` | which customers the run has met |
//! | `rows` | all of that: files → rows |
//! | `outcome` | completions → what became of a row, in four bytes |
//! | `collect` | reads the completions of a batch into its results |
//!
//! What a run must not forget is in Redis ([`crate::queue::backfill`]): up to which row each partition was fed, and four
//! bytes a row for what became of it. Memory here is bounded by [`BYTES_PER_ROW`] a row, for finding duplicates, and the
//! queue by the run's window.

mod collect;
mod csv;
mod input;
mod job;
mod mapping;
mod ndjson;
mod outcome;
mod rows;
mod seen;
mod window;

pub use collect::Collector;
pub use csv::quoted;
pub use input::{Encoding, digest};
pub use job::{RowFault, Target};
pub use mapping::{COLUMNS, HeaderFault, MapEntry};
pub use outcome::{RowOutcome, RowResult, Tally};
pub use rows::{Counts, Format, Layout, Row, Rows, RowsError, Verdict};
pub use seen::BYTES_PER_ROW;
pub use window::MAX_ROW_BYTES;
