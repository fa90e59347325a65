//! Files → rows, in order, numbered through from 1: the same files give the same rows every time.

use super::{
    csv::{Record, Records},
    input::{self, Encoding},
    job::{Prepared, RowFault, Target},
    mapping::{HeaderFault, MapEntry, Mapping, column},
    ndjson::Lines,
    seen::{Place, Seen},
};
use serde_json::{Value, value::RawValue};
use std::{
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, atomic::AtomicU64},
};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header and records.
    Csv,
    /// `args` of a `CreateUser`, one a line.
    Ndjson,
}

impl Format {
    /// As flags name it.
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

/// How the files are to be read; what is not set shows in the files themselves.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Else NDJSON where the first character is `{`.
    pub format: Option<Format>,
    /// Of CSV.
    pub delimiter: Option<u8>,
    /// Of all files that have no byte order mark.
    pub encoding: Encoding,
    /// How CSV headers name columns.
    pub map: Vec<MapEntry>,
}

/// One row.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Counted through all files, from 1.
    pub number: u64,
    /// Which file, from 0.
    pub file: usize,
    /// Where it begins.
    pub line: u64,
    /// What it is good for.
    pub verdict: Verdict,
    /// Of a valid row: where another reference was met that looks the same, in another Unicode form.
    pub alike: Option<String>,
}

/// What a row is good for.
#[derive(Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A job.
    Valid {
        /// `customer_reference`
        reference: String,
        /// The job's JSON.
        job: String,
        /// Where it belongs.
        partition: u16,
    },
    /// Nothing.
    Rejected {
        /// `customer_reference`, where it can be read.
        reference: Option<String>,
        /// Every fault.
        faults: Vec<RowFault>,
    },
    /// Nothing: the customer was met before.
    Duplicate {
        /// `customer_reference`
        reference: String,
        /// Which column is the same, and where it was first.
        fault: RowFault,
    },
}

/// Rows by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// All.
    pub rows: u64,
    /// Of these, valid.
    pub valid: u64,
    /// Of these, not valid.
    pub rejected: u64,
    /// Of these, customers met before.
    pub duplicates: u64,
    /// Of the valid ones, those whose reference looks like another's, in another Unicode form.
    #[serde(default)]
    pub lookalikes: u64,
}

impl Counts {
    /// One more.
    pub const fn add(&mut self, verdict: &Verdict) {
        self.rows += 1;
        match verdict {
            Verdict::Valid { .. } => self.valid += 1,
            Verdict::Rejected { .. } => self.rejected += 1,
            Verdict::Duplicate { .. } => self.duplicates += 1,
        }
    }
}

/// Why a file cannot be read (on).
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// Its header will not do.
    #[error("{}: {fault}", file.display())]
    Header {
        /// Which file.
        file: PathBuf,
        /// Why.
        fault: HeaderFault,
    },
    /// It cannot be read.
    #[error("{} cannot be read: {error}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
}

#[allow(clippy::large_enum_variant, reason = "there is one")]
enum Reader {
    Csv(Records<Box<dyn Read + Send>>, Mapping),
    Ndjson(Lines<Box<dyn Read + Send>>),
}

/// The rows of some files.
pub struct Rows {
    files: Vec<PathBuf>,
    layout: Layout,
    target: Target,
    read: Arc<AtomicU64>,
    reader: Option<Reader>,
    /// The file that is read now, from 0.
    file: usize,
    number: u64,
    seen: Seen,
}

impl Rows {
    /// Opens every file once, so that none is found unreadable when half of the work is done. `read` counts bytes.
    pub fn open(files: Vec<PathBuf>, layout: Layout, target: Target, read: Arc<AtomicU64>) -> Result<Self, RowsError> {
        for file in &files {
            reader(file, &layout, Arc::default())?;
        }
        Ok(Self { files, layout, target, read, reader: None, file: 0, number: 0, seen: Seen::default() })
    }

    /// The next row.
    #[allow(clippy::should_implement_trait, reason = "it fails")]
    pub fn next(&mut self) -> Result<Option<Row>, RowsError> {
        loop {
            let Some(path) = self.files.get(self.file) else { return Ok(None) };
            if self.reader.is_none() {
                self.reader = Some(reader(path, &self.layout, Arc::clone(&self.read))?);
            }
            let number = self.number + 1;
            let judged = match &mut self.reader {
                Some(Reader::Csv(records, mapping)) => {
                    records.next().map(|record| record.map(|record| csv(record, mapping, &self.target, number)))
                }
                Some(Reader::Ndjson(lines)) => {
                    lines.next().map(|line| line.map(|line| json(line, &self.target, number)))
                }
                None => Ok(None),
            };
            if let Some(judged) = judged.map_err(|error| RowsError::Io { file: path.clone(), error })? {
                self.number = number;
                return Ok(Some(self.conclude(judged)));
            }
            self.reader = None;
            self.file += 1;
        }
    }

    fn conclude(&mut self, judged: Judged) -> Row {
        let Judged { line, reference, result } = judged;
        let (number, file) = (self.number, self.file);
        let mut alike = None;
        let verdict = match result {
            Err(faults) => Verdict::Rejected { reference, faults },
            Ok(Prepared { reference, email, job, partition }) => {
                match self.seen.note(&reference, &email, Place { file, line }) {
                    Ok(first) => {
                        alike = first.map(|first| self.place_as_text(first));
                        Verdict::Valid { reference, job, partition }
                    }
                    Err((column, first)) => {
                        let reason = format!("is that of {}", self.place_as_text(first));
                        Verdict::Duplicate { reference, fault: RowFault { place: column.to_owned(), reason } }
                    }
                }
            }
        };
        Row { number, file, line, verdict, alike }
    }

    /// `line 7`, with its file's name where that is another than the one read now.
    fn place_as_text(&self, place: Place) -> String {
        let other = self.files.get(place.file).filter(|_| place.file != self.file);
        let other = other.map_or_else(String::new, |path| format!(" of {}", path.display()));
        format!("line {}{other}", place.line)
    }
}

fn reader(path: &Path, layout: &Layout, read: Arc<AtomicU64>) -> Result<Reader, RowsError> {
    let unreadable = |error| RowsError::Io { file: path.to_owned(), error };
    let mut input = input::open(path, layout.encoding, read).map_err(unreadable)?;
    let mut start = Vec::new();
    input.by_ref().take(4096).read_to_end(&mut start).map_err(unreadable)?;
    let looks = if start.trim_ascii_start().starts_with(b"{") { Format::Ndjson } else { Format::Csv };
    let input: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(input));
    if layout.format.unwrap_or(looks) == Format::Ndjson {
        return Ok(Reader::Ndjson(Lines::new(input)));
    }
    let mut records = Records::new(input, layout.delimiter).map_err(unreadable)?;
    let header = match records.next().map_err(unreadable)? {
        None => Err(HeaderFault::Empty),
        Some(Record { cells: Err(flaw), .. }) => Err(HeaderFault::Unreadable(flaw.reason())),
        Some(Record { cells: Ok(cells), .. }) => Mapping::new(&cells, &layout.map),
    };
    let mapping: Mapping = header.map_err(|fault| RowsError::Header { file: path.to_owned(), fault })?;
    records.expect_width(mapping.width());
    Ok(Reader::Csv(records, mapping))
}

struct Judged {
    line: u64,
    /// Of a row that is not valid.
    reference: Option<String>,
    result: Result<Prepared, Vec<RowFault>>,
}

fn whole(reason: impl Into<String>) -> Vec<RowFault> {
    vec![RowFault { place: String::new(), reason: reason.into() }]
}

fn csv(Record { line, cells }: Record, mapping: &Mapping, target: &Target, number: u64) -> Judged {
    let cells = match cells {
        Ok(cells) => cells,
        Err(flaw) => return Judged { line, reference: None, result: Err(whole(flaw.reason())) },
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
    Judged { line, reference: mapping.reference(&cells), result }
}

fn json((line, text): super::ndjson::Line, target: &Target, number: u64) -> Judged {
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
    Judged { line, reference, result }
}

/// The reference in `args` that are wrong elsewhere.
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
                Verdict::Valid { reference, .. } => reference,
                Verdict::Rejected { reference, faults } => {
                    format!(
                        "{}: {}",
                        reference.unwrap_or_default(),
                        faults.iter().map(fault).collect::<Vec<_>>().join("; ")
                    )
                }
                Verdict::Duplicate { reference, fault: same } => format!("{reference} = {}", fault(&same)),
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
