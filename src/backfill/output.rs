//! Files that a backfill writes. Only their owner may read them, because they name customers.

use super::{Row, RowFault, RowVerdict, quoted};
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

/// The file of the rows that are not enqueued: `FILE.rejected.csv`.
pub fn rejected(path: &Path) -> PathBuf {
    beside(path, ".rejected.csv")
}

/// The file of the rows' outcomes: `FILE.results.csv`.
pub fn results(path: &Path) -> PathBuf {
    beside(path, ".results.csv")
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

    fn line(&mut self, line: &str) -> Result<(), OutputError> {
        writeln!(self.file, "{line}").map_err(|error| self.failed(error))
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        self.file.flush().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> OutputError {
        OutputError { file: self.path.clone(), error }
    }
}

/// `FILE.rejected.csv` of each file. Every run writes them anew: their content follows from the files alone.
pub struct Rejects(Vec<Output>);

impl Rejects {
    /// Makes the files, each with a header.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn create(files: &[PathBuf]) -> Result<Self, OutputError> {
        let files = files.iter().map(|path| {
            let mut file = Output::create(rejected(path))?;
            file.line("line,customer_reference,column,reason")?;
            Ok(file)
        });
        files.collect::<Result<_, _>>().map(Self)
    }

    /// Writes one line for a row that is not valid. A valid row is ignored.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&mut self, row: &Row) -> Result<(), OutputError> {
        let (reference, faults) = match &row.verdict {
            RowVerdict::Valid { .. } => return Ok(()),
            RowVerdict::Rejected { reference, faults } => (reference.as_deref().unwrap_or_default(), faults.as_slice()),
            RowVerdict::Duplicate { reference, fault } => (reference.as_str(), std::slice::from_ref(fault)),
        };
        let Some(file) = self.0.get_mut(row.file) else { return Ok(()) };
        let mut places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        places.retain(|place| !place.is_empty());
        let reasons: Vec<_> = faults.iter().map(reason).collect();
        let (places, reasons) = (places.join(" "), reasons.join("; "));
        file.line(&format!("{},{},{},{}", row.line, quoted(reference), quoted(&places), quoted(&reasons)))
    }

    /// Writes everything to the files that is still in memory.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn flush(&mut self) -> Result<(), OutputError> {
        self.0.iter_mut().try_for_each(Output::flush)
    }
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
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let complete = results(path);
        let mut part = Output::create(beside(&complete, ".part"))?;
        part.line("customer_reference,outcome,error,attempts")?;
        Ok(Self { part, complete })
    }

    /// Writes the outcome of one row. `error` is empty where there is none.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&mut self, reference: &str, outcome: &str, error: &str, attempts: u32) -> Result<(), OutputError> {
        self.part.line(&format!("{},{outcome},{error},{attempts}", quoted(reference)))
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
