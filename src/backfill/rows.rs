//! Files → rows. Rows are numbered from 1 through all files: the same files give the same rows every time.

use super::{
    csv::{Record, Records},
    dedupe::{RowPlace, Seen},
    input::{self, Encoding},
    mapping::{HeaderFault, MapEntry, Mapping, column},
    ndjson::RowLines,
    row_job::{Prepared, RowFault, Target},
};
use serde_json::{Value, value::RawValue};
use std::{
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, atomic::AtomicU64},
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

/// Number of rows by verdict.
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
}

impl RowCounts {
    /// Counts one more row.
    pub const fn add(&mut self, verdict: &RowVerdict) {
        self.rows += 1;
        match verdict {
            RowVerdict::Valid { .. } => self.valid += 1,
            RowVerdict::Rejected { .. } => self.rejected += 1,
            RowVerdict::Duplicate { .. } => self.duplicates += 1,
        }
    }
}

/// Why the rows of a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The header lacks a column, or has one twice.
    #[error("{}: {fault}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// The reason.
        fault: HeaderFault,
    },
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The reason.
        error: io::Error,
    },
}

#[allow(clippy::large_enum_variant, reason = "there is one")]
enum RowReader {
    Csv(Records<Box<dyn Read + Send>>, Mapping),
    Ndjson(RowLines<Box<dyn Read + Send>>),
}

/// Reads the rows of files.
pub struct Rows {
    files: Vec<PathBuf>,
    layout: Layout,
    target: Target,
    read: Arc<AtomicU64>,
    reader: Option<RowReader>,
    /// The current file, counted from 0.
    file: usize,
    number: u64,
    seen: Seen,
}

impl Rows {
    /// Opens every file once, so that an unreadable file is found before the work begins. `read` counts the bytes read.
    pub fn open(files: Vec<PathBuf>, layout: Layout, target: Target, read: Arc<AtomicU64>) -> Result<Self, RowsError> {
        for file in &files {
            reader(file, &layout, Arc::default())?;
        }
        Ok(Self { files, layout, target, read, reader: None, file: 0, number: 0, seen: Seen::default() })
    }

    /// The next row; `None` after the last.
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Row>, RowsError> {
        loop {
            let Some(path) = self.files.get(self.file) else { return Ok(None) };
            if self.reader.is_none() {
                self.reader = Some(reader(path, &self.layout, Arc::clone(&self.read))?);
            }
            let number = self.number + 1;
            let checked = match &mut self.reader {
                Some(RowReader::Csv(records, mapping)) => {
                    records.next().map(|record| record.map(|record| csv(record, mapping, &self.target, number)))
                }
                Some(RowReader::Ndjson(lines)) => {
                    lines.next().map(|line| line.map(|line| json(line, &self.target, number)))
                }
                None => Ok(None),
            };
            if let Some(checked) = checked.map_err(|error| RowsError::Io { file: path.clone(), error })? {
                self.number = number;
                return Ok(Some(self.conclude(checked)));
            }
            self.reader = None;
            self.file += 1;
        }
    }

    fn conclude(&mut self, checked: Checked) -> Row {
        let Checked { line, reference, result } = checked;
        let (number, file) = (self.number, self.file);
        let mut alike = None;
        let verdict = match result {
            Err(faults) => RowVerdict::Rejected { reference, faults },
            Ok(Prepared { reference, email, job, partition }) => {
                match self.seen.note(&reference, &email, RowPlace { file, line }) {
                    Ok(first) => {
                        alike = first.map(|first| self.place_as_text(first));
                        RowVerdict::Valid { reference, job, partition }
                    }
                    Err((column, first)) => {
                        let reason = format!("is that of {}", self.place_as_text(first));
                        RowVerdict::Duplicate { reference, fault: RowFault { place: column.to_owned(), reason } }
                    }
                }
            }
        };
        Row { number, file, line, verdict, alike }
    }

    /// `line 7`, with the file's name if it is not the current file.
    fn place_as_text(&self, place: RowPlace) -> String {
        let other = self.files.get(place.file).filter(|_| place.file != self.file);
        let other = other.map_or_else(String::new, |path| format!(" of {}", path.display()));
        format!("line {}{other}", place.line)
    }
}

fn reader(path: &Path, layout: &Layout, read: Arc<AtomicU64>) -> Result<RowReader, RowsError> {
    let unreadable = |error| RowsError::Io { file: path.to_owned(), error };
    let mut input = input::open(path, layout.encoding, read).map_err(unreadable)?;
    let mut start = Vec::new();
    input.by_ref().take(4096).read_to_end(&mut start).map_err(unreadable)?;
    let looks = if start.trim_ascii_start().starts_with(b"{") { Format::Ndjson } else { Format::Csv };
    let input: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(input));
    if layout.format.unwrap_or(looks) == Format::Ndjson {
        return Ok(RowReader::Ndjson(RowLines::new(input)));
    }
    let mut records = Records::new(input, layout.delimiter).map_err(unreadable)?;
    let header = match records.next().map_err(unreadable)? {
        None => Err(HeaderFault::Empty),
        Some(Record { cells: Err(flaw), .. }) => Err(HeaderFault::Unreadable(flaw.reason())),
        Some(Record { cells: Ok(cells), .. }) => Mapping::new(&cells, &layout.map),
    };
    let mapping: Mapping = header.map_err(|fault| RowsError::Header { file: path.to_owned(), fault })?;
    records.expect_width(mapping.width());
    Ok(RowReader::Csv(records, mapping))
}

struct Checked {
    line: u64,
    /// The reference of a row that is not valid.
    reference: Option<String>,
    result: Result<Prepared, Vec<RowFault>>,
}

fn whole(reason: impl Into<String>) -> Vec<RowFault> {
    vec![RowFault { place: String::new(), reason: reason.into() }]
}

fn csv(Record { line, cells }: Record, mapping: &Mapping, target: &Target, number: u64) -> Checked {
    let cells = match cells {
        Ok(cells) => cells,
        Err(flaw) => return Checked { line, reference: None, result: Err(whole(flaw.reason())) },
    };
    let result = mapping.args(&cells).and_then(|args| {
        let raw = serde_json::value::to_raw_value(&args).map_err(|_| whole("is no text"))?;
        target.job(number, &raw).map_err(|mut faults| {
            for fault in &mut faults {
                fault.place = column(&fault.place, &args);
            }
            faults
        })
    });
    Checked { line, reference: mapping.reference(&cells), result }
}

fn json((line, text): super::ndjson::Line, target: &Target, number: u64) -> Checked {
    let mut reference = None;
    let result = match text.as_deref().map(std::str::from_utf8) {
        None => Err(whole("is longer than 65536 bytes")),
        Some(Err(_)) => Err(whole("is no UTF-8")),
        // One whole value: what follows it could otherwise pass for a part of the job.
        Some(Ok(text)) => match serde_json::from_str::<&RawValue>(text) {
            Err(error) => Err(whole(format!("is no JSON at column {}", error.column()))),
            Ok(args) => target.job(number, args).inspect_err(|_| reference = reference_in(args)),
        },
    };
    Checked { line, reference, result }
}

/// The reference in `args` that have a fault elsewhere.
fn reference_in(args: &RawValue) -> Option<String> {
    let args: Value = serde_json::from_str(args.get()).ok()?;
    args["customer_reference"].as_str().map(|text| text.chars().take(256).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(files: &[(&str, &str)], layout: Layout) -> Vec<(u64, usize, u64, String)> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
        for (path, (_, text)) in paths.iter().zip(files) {
            std::fs::write(path, text).unwrap();
        }
        let target = Target { batch: "b".to_owned(), merchant_id: None, partitions: 1 };
        let mut rows = Rows::open(paths, layout, target, Arc::default()).unwrap();
        let mut told = Vec::new();
        let fault = |fault: &RowFault| format!("{} {}", fault.place, fault.reason);
        while let Some(row) = rows.next().unwrap() {
            let text = match row.verdict {
                RowVerdict::Valid { reference, .. } => reference,
                RowVerdict::Rejected { reference, faults } => {
                    format!(
                        "{}: {}",
                        reference.unwrap_or_default(),
                        faults.iter().map(fault).collect::<Vec<_>>().join("; ")
                    )
                }
                RowVerdict::Duplicate { reference, fault: same } => format!("{reference} = {}", fault(&same)),
            };
            let text = text.split(" /").next().unwrap_or_default().replace(folder.path().to_str().unwrap(), "");
            told.push((row.number, row.file, row.line, text));
        }
        told
    }

    #[test]
    fn rows_are_numbered_through_all_files_and_met_once() {
        let csv =
            "email;customer_reference\n\na@example.com;c1\nnobody;c2\nb@example.com;c1\n\"x\"y;c3\nb@example.com;c4\n";
        let json = "{\"customer_reference\":\"c5\",\"user\":{\"email\":\"A@example.com\"}}\n{\n\n\
                    {\"customer_reference\":\"c6\",\"user\":{}}\n{\"customer_reference\":\"c7\",\"user\":{\"email\":\"c@example.com\"}}";
        let told = rows(&[("a.csv", csv), ("b.json", json)], Layout::default());
        let told: Vec<_> =
            told.iter().map(|(number, file, line, text)| (*number, *file, *line, text.as_str())).collect();
        assert_eq!(
            told,
            [
                (1, 0, 3, "c1"),
                (2, 0, 4, "c2: email must be an email address such as name@example.com"),
                (3, 0, 5, "c1 = customer_reference is that of line 3"),
                (4, 0, 6, ":  text stands behind a closing quote (a quote within quotes is written twice)"),
                (5, 0, 7, "c4"),
                (6, 1, 1, "c5 = email is that of line 3 of"),
                (7, 1, 2, ":  is no JSON at column 1"),
                (8, 1, 4, "c6:"),
                (9, 1, 5, "c7"),
            ]
        );
    }

    #[test]
    fn a_line_cannot_pass_for_more_than_args() {
        let line = r#"{"customer_reference":"c","user":{"email":"a@example.com"}},"caller_id":"x","meta":{}"#;
        let told = rows(&[("a", line)], Layout { format: Some(Format::Ndjson), ..Layout::default() });
        assert!(told[0].3.contains("is no JSON"), "{told:?}");
    }

    #[test]
    fn every_header_is_looked_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good.csv"), folder.path().join("bad.csv"));
        std::fs::write(&good, "email,customer_reference\n").unwrap();
        std::fs::write(&bad, "mail,customer_reference\n").unwrap();
        let target = Target { batch: "b".to_owned(), merchant_id: None, partitions: 1 };
        let opened = Rows::open(vec![good, bad], Layout::default(), target, Arc::default());
        assert!(matches!(opened, Err(RowsError::Header { fault: HeaderFault::Missing { .. }, .. })));
    }
}
