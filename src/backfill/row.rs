//! A row of a file, and how files are written.

use super::{
    convert::Conversions,
    dedupe::RowPlace,
    input::Encoding,
    mapping::{Ignored, MapEntry},
    row_job::RowFault,
};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header line, then records.
    Csv,
    /// The `args` of a `CreateUser` on each line.
    Ndjson,
}

impl Format {
    /// The format's name in flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Self::Csv, Self::Ndjson].into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| "csv or ndjson".to_owned())
    }
}

/// How the files are written. What is not set is detected from each file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The format. Not set: NDJSON if the first character is `{`, else CSV.
    pub format: Option<Format>,
    /// The byte between CSV cells.
    pub delimiter: Option<u8>,
    /// The encoding of files that have no byte order mark.
    pub encoding: Encoding,
    /// Columns that the CSV header names otherwise.
    pub map: Vec<MapEntry>,
    /// Values that are converted. Only CSV has them.
    pub convert: Conversions,
}

/// Files that are written alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The files, in their order.
    pub files: Vec<PathBuf>,
    /// How the files are written.
    pub layout: Layout,
}

/// A file to read.
pub struct Input {
    /// The file.
    pub path: PathBuf,
    /// How it is written.
    pub layout: Layout,
    /// The part that it belongs to, counted from 0. Each later part corrects rows of the parts before it.
    pub part: usize,
    /// Its CSV header and delimiter; `None` for NDJSON.
    pub head: Option<Head>,
    /// Its columns that are not read.
    pub ignored: Ignored,
}

/// The header of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The byte between cells.
    pub delimiter: u8,
    /// The names, without the columns `line` and `reason` of a correction.
    pub cells: Vec<Vec<u8>>,
}

/// A row as its file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Original {
    /// The cells of a CSV record. A line that is no record is one cell.
    Cells(Vec<Vec<u8>>),
    /// A line of NDJSON.
    Text(Vec<u8>),
}

/// A row, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// The row's number: counted from 1 through all files.
    pub number: u64,
    /// The row's file, counted from 0.
    pub file: usize,
    /// The line of the file that the row begins in.
    pub line: u64,
    /// The place of the earlier row that this row corrects.
    pub corrects: Option<RowPlace>,
    /// The row as its file has it.
    pub original: Original,
    /// Whether the row is enqueued.
    pub verdict: RowVerdict,
    /// The place of an earlier reference that looks the same and is written in another Unicode form. Only a valid row has one.
    pub alike: Option<String>,
}

/// Whether a row is enqueued, or why not.
#[derive(Clone, PartialEq, Eq)]
pub enum RowVerdict {
    /// The row is valid.
    Valid {
        /// `customer_reference`
        reference: String,
        /// The email address.
        email: String,
        /// The job's JSON.
        job: String,
        /// The job's partition.
        partition: u16,
    },
    /// The row has faults.
    Rejected {
        /// `customer_reference`, if it can be read.
        reference: Option<String>,
        /// Every fault.
        faults: Vec<RowFault>,
    },
    /// An earlier row is about the same customer.
    Duplicate {
        /// `customer_reference`
        reference: String,
        /// The column that is the same, and the place of the earlier row.
        fault: RowFault,
    },
}

impl Row {
    /// The place that the row is reported under: its own, or that of the row that it corrects.
    pub fn place(&self) -> RowPlace {
        self.corrects.unwrap_or(RowPlace { file: self.file, line: self.line })
    }
}

/// Number of rows by verdict. A row and its correction are one row, with the verdict of the correction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RowCounts {
    /// All rows.
    pub rows: u64,
    /// Valid rows.
    pub valid: u64,
    /// Rows with faults.
    pub rejected: u64,
    /// Rows whose customer an earlier row is about.
    pub duplicates: u64,
    /// Valid rows whose reference looks like an earlier one and is written in another Unicode form.
    #[serde(default)]
    pub lookalikes: u64,
    /// Rows that are valid since they were corrected.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub corrected: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The name of a file, without its folder.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
