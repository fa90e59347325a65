//! Files that a backfill writes. Only their owner may read them, because they name customers.

use super::{
    Encoding, Input, Original, Row, RowFault, RowPlace, RowVerdict, Rows, cell, input::digest, row::file_name,
    summary::label,
};
use serde_json::json;
use sha2::Digest;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {error}", file.display())]
pub struct OutputError {
    /// The file.
    pub file: PathBuf,
    /// The reason.
    pub error: io::Error,
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The file of the rows that are not enqueued: `FILE.rejected.csv`, or `FILE.rejected.ndjson`. The rows that are not enqueued
/// of `FILE.rejected.csv` itself are in `FILE.rejected-2.csv`.
pub fn rejected(input: &Input) -> PathBuf {
    let extension = if input.head.is_some() { "csv" } else { "ndjson" };
    rejected_as(&input.path, extension)
}

/// [`rejected`] in either format.
pub(super) fn any_rejected(path: &Path) -> [PathBuf; 2] {
    ["csv", "ndjson"].map(|extension| rejected_as(path, extension))
}

fn rejected_as(path: &Path, extension: &str) -> PathBuf {
    let name = file_name(path);
    let stem = name.strip_suffix(&format!(".{extension}")).and_then(|stem| stem.rsplit_once(".rejected"));
    let next = stem.and_then(|(stem, number)| match number {
        "" => Some((stem, 2)),
        number => Some((stem, number.strip_prefix('-')?.parse::<u32>().ok()?.checked_add(1)?)),
    });
    match next {
        Some((stem, number)) => path.with_file_name(format!("{stem}.rejected-{number}.{extension}")),
        None => beside(path, &format!(".rejected.{extension}")),
    }
}

/// The file of the rows' outcomes: `FILE.results.csv`, or `FILE.BATCH.results.csv` where `of_batch` is given because another
/// batch wrote the first.
pub fn results(path: &Path, of_batch: Option<&str>) -> PathBuf {
    match of_batch {
        Some(batch) => beside(path, &format!(".{batch}.results.csv")),
        None => beside(path, ".results.csv"),
    }
}

/// A file that is being written.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Output {
    /// Makes a new file. An old one is unlinked first: another run may still write into it, and does no harm then.
    fn create(path: PathBuf) -> Result<Self, OutputError> {
        const OWNER_ONLY: u32 = 0o600;
        let created = match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&path),
        };
        match created {
            Ok(file) => Ok(Self { path, file: BufWriter::new(file) }),
            Err(error) => Err(OutputError { file: path, error }),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), OutputError> {
        self.file.write_all(line).and_then(|()| self.file.write_all(b"\n")).map_err(|error| self.failed(error))
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        self.file.flush().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> OutputError {
        OutputError { file: self.path.clone(), error }
    }
}

/// `FILE.rejected.csv` of each file of the last part: the rows that are not enqueued, with two more columns (`line`, `reason`),
/// written as the file itself is. A file gets its name once it is complete.
pub struct Rejects {
    files: Vec<Option<RejectsFile>>,
    file_names: Vec<String>,
}

struct RejectsFile {
    part: Output,
    complete: PathBuf,
    /// The byte between cells; `None` for NDJSON.
    delimiter: Option<u8>,
}

impl Rejects {
    /// Makes the files, each with a header.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn create(rows: &Rows) -> Result<Self, OutputError> {
        let last = rows.inputs().last().map_or(0, |input| input.part);
        let files = rows
            .inputs()
            .iter()
            .map(|input| if input.part == last { RejectsFile::create(input).map(Some) } else { Ok(None) });
        let files = files.collect::<Result<_, _>>()?;
        Ok(Self { files, file_names: rows.inputs().iter().map(|input| file_name(&input.path)).collect() })
    }

    /// Writes one line for a row that is not valid. A valid row is ignored.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&mut self, row: &Row) -> Result<(), OutputError> {
        let faults = match &row.verdict {
            RowVerdict::Valid { .. } => return Ok(()),
            RowVerdict::Rejected { faults, .. } => faults.as_slice(),
            RowVerdict::Duplicate { fault, .. } => std::slice::from_ref(fault),
        };
        let Some(Some(file)) = self.files.get_mut(row.file) else { return Ok(()) };
        let reasons: Vec<_> = faults.iter().map(reason).collect();
        let place: RowPlace = row.place();
        file.write(&label(place, &self.file_names), &reasons.join("; "), &row.original)
    }

    /// Gives each file its name. A file of this name with another content is kept as `NAME.old`: somebody may have corrected
    /// rows in it.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn finish(self) -> Result<(), OutputError> {
        for RejectsFile { mut part, complete, .. } in self.files.into_iter().flatten() {
            part.flush()?;
            let failed = |error| OutputError { file: complete.clone(), error };
            let content = |path: &Path| digest(&[path]).ok().map(Digest::finalize);
            let before = content(&complete);
            if before.is_some() && before == content(&part.path) {
                fs::remove_file(&part.path).map_err(failed)?;
                continue;
            }
            if before.is_some() {
                fs::rename(&complete, beside(&complete, ".old")).map_err(failed)?;
            }
            fs::rename(&part.path, &complete).map_err(failed)?;
        }
        Ok(())
    }
}

impl RejectsFile {
    fn create(input: &Input) -> Result<Self, OutputError> {
        let complete = rejected(input);
        let mut part = Output::create(beside(&complete, ".part"))?;
        let delimiter = input.head.as_ref().map(|head| head.delimiter);
        if let Some(head) = &input.head {
            // The mark makes the file readable with the flags of the file itself.
            let mark: &[u8] = if input.layout.encoding == Encoding::default() { b"" } else { b"\xef\xbb\xbf" };
            part.line(&[mark, &record("line", "reason", &head.cells, head.delimiter)].concat())?;
        }
        Ok(Self { part, complete, delimiter })
    }

    fn write(&mut self, label: &str, reason: &str, original: &Original) -> Result<(), OutputError> {
        let line = match original {
            Original::Cells(cells) => record(label, reason, cells, self.delimiter.unwrap_or(b',')),
            Original::Text(text) => labelled(label, reason, text),
        };
        self.part.line(&line)
    }
}

fn record(label: &str, reason: &str, cells: &[Vec<u8>], delimiter: u8) -> Vec<u8> {
    let mut line = Vec::new();
    cell::push(&mut line, label.as_bytes(), delimiter);
    line.push(delimiter);
    cell::push(&mut line, reason.as_bytes(), delimiter);
    for cell in cells {
        line.push(delimiter);
        cell::push(&mut line, cell, delimiter);
    }
    line
}

/// A line of NDJSON with two more members. A line that is no object becomes the member `text`.
fn labelled(label: &str, reason: &str, text: &[u8]) -> Vec<u8> {
    let is_object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
    let Some(members) = text.trim_ascii().strip_prefix(b"{").filter(|_| is_object) else {
        let line = json!({"line": label, "reason": reason, "text": String::from_utf8_lossy(text)});
        return line.to_string().into_bytes();
    };
    let comma = if members.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    let start = format!("{{\"line\":{},\"reason\":{}{comma}", json!(label), json!(reason));
    [start.as_bytes(), members].concat()
}

fn reason(fault: &RowFault) -> String {
    if fault.place.is_empty() { fault.reason.clone() } else { format!("{} {}", fault.place, fault.reason) }
}

/// `FILE.results.csv` of one file. It gets that name once it is complete; until then it ends in `.part`.
pub struct Results {
    part: Output,
    complete: PathBuf,
}

impl Results {
    /// Makes the file, with a header.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn create(complete: PathBuf) -> Result<Self, OutputError> {
        let mut part = Output::create(beside(&complete, ".part"))?;
        part.line(b"customer_reference,outcome,error,attempts")?;
        Ok(Self { part, complete })
    }

    /// Writes the outcome of one row. `error` is empty where there is none.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&mut self, reference: &str, outcome: &str, error: &str, attempts: u32) -> Result<(), OutputError> {
        let mut line = Vec::new();
        cell::push(&mut line, reference.as_bytes(), b',');
        line.extend_from_slice(format!(",{outcome},{error},{attempts}").as_bytes());
        self.part.line(&line)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn finish(mut self) -> Result<(), OutputError> {
        self.part.flush()?;
        fs::rename(&self.part.path, &self.complete).map_err(|error| OutputError { file: self.complete, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_rows_of_rejected_rows_have_a_file_of_their_own() {
        for (file, wanted) in [
            ("a.csv", "a.csv.rejected.csv"),
            ("a.csv.rejected.csv", "a.csv.rejected-2.csv"),
            ("a.csv.rejected-2.csv", "a.csv.rejected-3.csv"),
            ("a.rejected-x.csv", "a.rejected-x.csv.rejected.csv"),
            ("fixed.csv", "fixed.csv.rejected.csv"),
        ] {
            assert_eq!(rejected_as(Path::new(file), "csv"), Path::new(wanted));
        }
    }

    #[test]
    fn a_line_of_ndjson_gets_its_reason() {
        let line = |text: &str| String::from_utf8_lossy(&labelled("7", "r", text.as_bytes())).into_owned();
        assert_eq!(line(" {\"a\": 1}"), "{\"line\":\"7\",\"reason\":\"r\",\"a\": 1}");
        assert_eq!(line("{ }"), "{\"line\":\"7\",\"reason\":\"r\" }");
        assert_eq!(line("{x"), "{\"line\":\"7\",\"reason\":\"r\",\"text\":\"{x\"}");
    }
}
