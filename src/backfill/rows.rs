//! Files → rows. Rows are numbered from 1 through all files: the same files give the same rows every time.

use super::{
    Format, Head, Input, Original, Part, Row, RowVerdict, cell,
    columns::Texts,
    convert::{Conversion, ConversionCounts, Conversions},
    csv::{Record, Records},
    dedupe::{RowPlace, Seen},
    input::{self, OpenError},
    mapping::{HeaderFault, Ignored, Mapping, args, column},
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
    /// The file is no text.
    #[error("{} {what}", file.display())]
    NoText {
        /// The file.
        file: PathBuf,
        /// What it is, and what to do about it.
        what: &'static str,
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
    tally: ConversionCounts,
}

impl Rows {
    /// Opens every file once, so that an unreadable file is found before the work begins. `read` counts the bytes read.
    pub fn open(parts: Vec<Part>, target: Target, read: Arc<AtomicU64>) -> Result<Self, RowsError> {
        let mut inputs = Vec::new();
        for (part, Part { files, layout }) in parts.into_iter().enumerate() {
            for path in files {
                let layout = layout.clone();
                let mut input = Input { path, layout, part, head: None, ignored: Ignored::default() };
                if let (_, Some((head, ignored))) = reader(&input, Arc::default())? {
                    input.head = Some(head);
                    input.ignored = ignored;
                }
                inputs.push(input);
            }
        }
        let (seen, tally) = (Seen::default(), ConversionCounts::default());
        Ok(Self { inputs, target, read, reader: None, file: 0, number: 0, seen, tally })
    }

    /// Reads every gzip file once, so that a damaged one is found before the first row.
    ///
    /// # Errors
    /// [`RowsError::Io`].
    pub fn verify(&self) -> Result<(), RowsError> {
        for Input { path, .. } in &self.inputs {
            input::verify(path).map_err(|error| RowsError::Io { file: path.clone(), error })?;
        }
        Ok(())
    }

    /// The files that are read.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// What the conversions have done to the rows so far. Corrections are converted as the rows that they correct.
    pub fn conversions(&self) -> Vec<Conversion> {
        self.inputs.first().map_or_else(Vec::new, |input| input.layout.convert.report(&self.tally))
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
                Some(RowReader::Csv(records, mapping, labels)) => {
                    let job = |texts: &Texts<'_>| job(texts, &self.target, number);
                    let (convert, tally) = (&input.layout.convert, &mut self.tally);
                    records.next().map(|record| record.map(|record| csv(record, mapping, *labels, convert, tally, job)))
                }
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
                        RowVerdict::Valid { reference, email, job, partition }
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

/// Opens a file. Returns its header and the columns that are not read, if it is CSV.
fn reader(input: &Input, read: Arc<AtomicU64>) -> Result<(RowReader, Option<(Head, Ignored)>), RowsError> {
    let Input { path, layout, part, .. } = input;
    let unreadable = |error| RowsError::Io { file: path.clone(), error };
    let mut input = input::open(path, layout.encoding, read).map_err(|error| match error {
        OpenError::NoText(what) => RowsError::NoText { file: path.clone(), what },
        OpenError::Io(error) => unreadable(error),
    })?;
    let mut start = Vec::new();
    input.by_ref().take(4096).read_to_end(&mut start).map_err(unreadable)?;
    let looks = if start.trim_ascii_start().starts_with(b"{") { Format::Ndjson } else { Format::Csv };
    let input: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(input));
    if layout.format.unwrap_or(looks) == Format::Ndjson {
        return if layout.convert.is_none() {
            Ok((RowReader::Ndjson(RowLines::new(input)), None))
        } else {
            Err(RowsError::Header { file: path.clone(), fault: HeaderFault::Unconverted })
        };
    }
    let mut records = Records::new(input, layout.delimiter).map_err(unreadable)?;
    let header = match records.next().map_err(unreadable)? {
        None => Err(HeaderFault::Empty),
        Some(Record { cells: Err(flaw), .. }) => Err(HeaderFault::Unreadable(flaw.reason())),
        Some(Record { cells: Ok(mut cells), .. }) => {
            records.expect_width(cells.len());
            let labels = if *part > 0 { Labels::of(&cells) } else { Labels::default() };
            labels.take(&mut cells);
            Mapping::new(&cells, &layout.map).map(|(mapping, ignored)| (ignored, labels, mapping, cells))
        }
    };
    let (ignored, labels, mapping, cells) = header.map_err(|fault| RowsError::Header { file: path.clone(), fault })?;
    let head = Head { delimiter: records.delimiter(), cells };
    Ok((RowReader::Csv(records, mapping, labels), Some((head, ignored))))
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

fn csv(
    record: Record,
    mapping: &Mapping,
    labels: Labels,
    convert: &Conversions,
    tally: &mut ConversionCounts,
    job: impl Fn(&Texts<'_>) -> Result<Prepared, Vec<RowFault>>,
) -> Checked {
    let Record { line, cells, text } = record;
    let mut cells = match cells {
        Ok(cells) => cells,
        Err(flaw) => {
            let (original, result) = (Original::Cells(vec![text]), Err(whole(flaw.reason())));
            return Checked { line, label: None, original, reference: None, result };
        }
    };
    let label = labels.take(&mut cells);
    let result = mapping.texts(&cells).and_then(|mut texts| {
        convert.apply(&mut texts, tally);
        let result = match job(&texts) {
            Err(faults) if convert.drop_invalid(&mut texts, &faults, tally) => job(&texts),
            result => result,
        };
        result.map_err(|mut faults| {
            for fault in &mut faults {
                convert.explain(fault);
            }
            faults
        })
    });
    Checked { line, label, reference: mapping.reference(&cells), original: Original::Cells(cells), result }
}

/// The job of a row of CSV, or its faults by column.
fn job(texts: &Texts<'_>, target: &Target, number: u64) -> Result<Prepared, Vec<RowFault>> {
    let args = args(texts);
    let raw = serde_json::value::to_raw_value(&args).map_err(|_| whole("is no text"))?;
    target.job(number, &raw).map_err(|mut faults| {
        for fault in &mut faults {
            fault.place = column(&fault.place, &args);
        }
        faults
    })
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
