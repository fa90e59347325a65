//! Files that are written: for the owner's eyes only, since they name customers.

use crate::backfill::{Row, RowFault, Verdict, quoted};
use anyhow::Context;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{BufWriter, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// `FILE.rejected.csv`
pub(super) fn rejected(path: &Path) -> PathBuf {
    beside(path, ".rejected.csv")
}

/// `FILE.results.csv`
pub(super) fn results(path: &Path) -> PathBuf {
    beside(path, ".results.csv")
}

/// A new file, whatever was there: another run that still writes the old one does no harm to it.
fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    const OWNER_ONLY: u32 = 0o600;
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path).map(BufWriter::new),
    }
    .with_context(|| format!("{} cannot be written", path.display()))
}

/// The files of rows that are not enqueued. Every run writes them anew: what is in them follows from the files alone.
pub(super) struct Rejects(Vec<BufWriter<File>>);

impl Rejects {
    pub(super) fn create(files: &[PathBuf]) -> anyhow::Result<Self> {
        let files = files.iter().map(|path| {
            let mut file = create(&rejected(path))?;
            writeln!(file, "line,customer_reference,column,reason")?;
            Ok(file)
        });
        files.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Writes a row that is not valid, a line for all its faults.
    pub(super) fn write(&mut self, row: &Row) -> anyhow::Result<()> {
        let (reference, faults) = match &row.verdict {
            Verdict::Valid { .. } => return Ok(()),
            Verdict::Rejected { reference, faults } => (reference.as_deref().unwrap_or_default(), faults.as_slice()),
            Verdict::Duplicate { reference, fault } => (reference.as_str(), std::slice::from_ref(fault)),
        };
        let Some(file) = self.0.get_mut(row.file) else { return Ok(()) };
        let mut places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        places.retain(|place| !place.is_empty());
        let reasons: Vec<_> = faults.iter().map(reason).collect();
        let (places, reasons) = (places.join(" "), reasons.join("; "));
        let written = writeln!(file, "{},{},{},{}", row.line, quoted(reference), quoted(&places), quoted(&reasons));
        written.context("FILE.rejected.csv cannot be written")
    }

    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        for file in &mut self.0 {
            file.flush().context("FILE.rejected.csv cannot be written")?;
        }
        Ok(())
    }
}

fn reason(fault: &RowFault) -> String {
    if fault.place.is_empty() { fault.reason.clone() } else { format!("{} {}", fault.place, fault.reason) }
}

/// `FILE.results.csv`, in its place once it is whole.
pub(super) struct Results {
    file: BufWriter<File>,
    part: PathBuf,
    whole: PathBuf,
}

impl Results {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let whole = results(path);
        let part = beside(&whole, ".part");
        let mut file = create(&part)?;
        writeln!(file, "customer_reference,outcome,error,attempts")?;
        Ok(Self { file, part, whole })
    }

    pub(super) fn write(&mut self, reference: &str, outcome: &str, error: &str, attempts: u32) -> anyhow::Result<()> {
        let written = writeln!(self.file, "{},{outcome},{error},{attempts}", quoted(reference));
        written.with_context(|| format!("{} cannot be written", self.part.display()))
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let written = self.file.flush().and_then(|()| fs::rename(&self.part, &self.whole));
        written.with_context(|| format!("{} cannot be written", self.whole.display()))
    }
}
