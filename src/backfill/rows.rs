//! Files → rows. Rows are numbered from 1 through all files: the same files give the same rows every time.

use super::{
    Format, Head, Input, Original, Part, Row, RowVerdict, cell,
    csv::{Record, Records},
    dedupe::{RowPlace, Seen},
    input,
    mapping::{HeaderFault, Mapping, column},
    ndjson::RowLines,
    row::file_name,
    row_job::{Prepared, RowFault, Target},
};
use serde_json::{Map, Value, value::RawValue};
use std::{
    io::{self, Cursor, Read},
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

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
    Csv(Records<Box<dyn Read + Send>>, Mapping, Labels),
    Ndjson(RowLines<Box<dyn Read + Send>>),
}

/// The columns `line` and `reason` of a correction, by their places.
#[derive(Debug, Clone, Copy, Default)]
struct Labels {
    is_correction: bool,
    line: Option<usize>,
    reason: Option<usize>,
}

impl Labels {
    fn of(header: &[Vec<u8>]) -> Self {
        let find = |name: &[u8]| header.iter().position(|cell| cell.trim_ascii().eq_ignore_ascii_case(name));
        Self { is_correction: true, line: find(b"line"), reason: find(b"reason") }
    }

    /// Takes these columns out of a record and makes its other cells what they were. Returns the cell `line`.
    fn take(self, cells: &mut Vec<Vec<u8>>) -> Option<String> {
        if !self.is_correction {
            return None;
        }
        let line = self.line.and_then(|line| cells.get(line)).map(|cell| String::from_utf8_lossy(cell).into_owned());
        let mut places: Vec<usize> = [self.line, self.reason].into_iter().flatten().collect();
        places.sort_unstable();
        for place in places.into_iter().rev() {
            if place < cells.len() {
                cells.remove(place);
            }
        }
        cells.iter_mut().for_each(cell::restore);
        line
    }
}

/// Reads the rows of files.
pub struct Rows {
    inputs: Vec<Input>,
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
    pub fn open(parts: Vec<Part>, target: Target, read: Arc<AtomicU64>) -> Result<Self, RowsError> {
        let mut inputs = Vec::new();
        for (part, Part { files, layout }) in parts.into_iter().enumerate() {
            for path in files {
                let mut input = Input { path, layout: layout.clone(), part, head: None };
                input.head = reader(&input, Arc::default())?.1;
                inputs.push(input);
            }
        }
        Ok(Self { inputs, target, read, reader: None, file: 0, number: 0, seen: Seen::default() })
    }

    /// The files that are read.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The next row; `None` after the last.
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Row>, RowsError> {
        loop {
            let Some(input) = self.inputs.get(self.file) else { return Ok(None) };
            if self.reader.is_none() {
                self.reader = Some(reader(input, Arc::clone(&self.read))?.0);
            }
            let number = self.number + 1;
            let checked = match &mut self.reader {
                Some(RowReader::Csv(records, mapping, labels)) => records
                    .next()
                    .map(|record| record.map(|record| csv(record, mapping, *labels, &self.target, number))),
                Some(RowReader::Ndjson(lines)) => {
                    lines.next().map(|line| line.map(|line| json(line, input.part > 0, &self.target, number)))
                }
                None => Ok(None),
            };
            if let Some(checked) = checked.map_err(|error| RowsError::Io { file: input.path.clone(), error })? {
                self.number = number;
                return Ok(Some(self.conclude(checked)));
            }
            self.reader = None;
            self.file += 1;
        }
    }

    fn conclude(&mut self, checked: Checked) -> Row {
        let Checked { line, label, original, reference, result } = checked;
        let (number, file) = (self.number, self.file);
        let corrects = label.and_then(|label| self.labelled(&label));
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
        Row { number, file, line, corrects, original, verdict, alike }
    }

    /// The place that the column `line` of a correction names: `7` in the first file, `b.csv:7` in another.
    fn labelled(&self, label: &str) -> Option<RowPlace> {
        let (name, line) =
            label.trim().rsplit_once(':').map_or((None, label.trim()), |(name, line)| (Some(name), line));
        let line = line.parse().ok()?;
        let file = match name {
            None => 0,
            Some(name) => self.inputs.iter().position(|input| file_name(&input.path) == name)?,
        };
        (file < self.file).then_some(RowPlace { file, line })
    }

    /// `line 7`, with the file's name if it is not the current file.
    fn place_as_text(&self, place: RowPlace) -> String {
        let other = self.inputs.get(place.file).filter(|_| place.file != self.file);
        let other = other.map_or_else(String::new, |input| format!(" of {}", input.path.display()));
        format!("line {}{other}", place.line)
    }
}

fn reader(input: &Input, read: Arc<AtomicU64>) -> Result<(RowReader, Option<Head>), RowsError> {
    let Input { path, layout, part, .. } = input;
    let unreadable = |error| RowsError::Io { file: path.clone(), error };
    let mut input = input::open(path, layout.encoding, read).map_err(unreadable)?;
    let mut start = Vec::new();
    input.by_ref().take(4096).read_to_end(&mut start).map_err(unreadable)?;
    let looks = if start.trim_ascii_start().starts_with(b"{") { Format::Ndjson } else { Format::Csv };
    let input: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(input));
    if layout.format.unwrap_or(looks) == Format::Ndjson {
        return Ok((RowReader::Ndjson(RowLines::new(input)), None));
    }
    let mut records = Records::new(input, layout.delimiter).map_err(unreadable)?;
    let header = match records.next().map_err(unreadable)? {
        None => Err(HeaderFault::Empty),
        Some(Record { cells: Err(flaw), .. }) => Err(HeaderFault::Unreadable(flaw.reason())),
        Some(Record { cells: Ok(mut cells), .. }) => {
            records.expect_width(cells.len());
            let labels = if *part > 0 { Labels::of(&cells) } else { Labels::default() };
            labels.take(&mut cells);
            Mapping::new(&cells, &layout.map).map(|mapping| (mapping, labels, cells))
        }
    };
    let (mapping, labels, cells) = header.map_err(|fault| RowsError::Header { file: path.clone(), fault })?;
    let head = Head { delimiter: records.delimiter(), cells };
    Ok((RowReader::Csv(records, mapping, labels), Some(head)))
}

struct Checked {
    line: u64,
    /// The cell `line` of a correction.
    label: Option<String>,
    original: Original,
    /// The reference of a row that is not valid.
    reference: Option<String>,
    result: Result<Prepared, Vec<RowFault>>,
}

fn whole(reason: impl Into<String>) -> Vec<RowFault> {
    vec![RowFault { place: String::new(), reason: reason.into() }]
}

fn csv(record: Record, mapping: &Mapping, labels: Labels, target: &Target, number: u64) -> Checked {
    let Record { line, cells, text } = record;
    let mut cells = match cells {
        Ok(cells) => cells,
        Err(flaw) => {
            let (original, result) = (Original::Cells(vec![text]), Err(whole(flaw.reason())));
            return Checked { line, label: None, original, reference: None, result };
        }
    };
    let label = labels.take(&mut cells);
    let result = mapping.args(&cells).and_then(|args| {
        let raw = serde_json::value::to_raw_value(&args).map_err(|_| whole("is no text"))?;
        target.job(number, &raw).map_err(|mut faults| {
            for fault in &mut faults {
                fault.place = column(&fault.place, &args);
            }
            faults
        })
    });
    Checked { line, label, reference: mapping.reference(&cells), original: Original::Cells(cells), result }
}

fn json((line, text): super::ndjson::Line, is_correction: bool, target: &Target, number: u64) -> Checked {
    let (label, text) = match text {
        Some(text) if is_correction => take_labels(text),
        text => (None, text),
    };
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
    Checked { line, label, original: Original::Text(text.unwrap_or_default()), reference, result }
}

/// Takes the members `line` and `reason` out of a line of a correction. Returns `line`.
fn take_labels(text: Vec<u8>) -> (Option<String>, Option<Vec<u8>>) {
    let Ok(mut args) = serde_json::from_slice::<Map<String, Value>>(&text) else { return (None, Some(text)) };
    args.remove("reason");
    let label = args.remove("line").map(|line| line.as_str().map_or_else(|| line.to_string(), str::to_owned));
    (label, Some(serde_json::to_vec(&args).unwrap_or(text)))
}

/// The reference in `args` that have a fault elsewhere.
fn reference_in(args: &RawValue) -> Option<String> {
    let args: Value = serde_json::from_str(args.get()).ok()?;
    args["customer_reference"].as_str().map(|text| text.chars().take(256).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::Layout, *};

    fn rows(files: &[(&str, &str)], layout: Layout) -> Vec<(u64, usize, u64, String)> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
        for (path, (_, text)) in paths.iter().zip(files) {
            std::fs::write(path, text).unwrap();
        }
        let target = Target { batch: "b".to_owned(), merchant_id: None, partitions: 1 };
        let mut rows = Rows::open(vec![Part { files: paths, layout }], target, Arc::default()).unwrap();
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
        let part = Part { files: vec![good, bad], layout: Layout::default() };
        let opened = Rows::open(vec![part], target, Arc::default());
        assert!(matches!(opened, Err(RowsError::Header { fault: HeaderFault::Missing { .. }, .. })));
    }
}
