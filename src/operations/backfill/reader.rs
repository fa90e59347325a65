//! The thread that reads: first it checks all rows, then it passes them on in bounded chunks.

use super::BackfillError;
use crate::{
    backfill::{Conversion, Fingerprints, Reason, Row, RowCounts, RowVerdict, Rows, Summary, output::Rejects},
    operations::Progress,
    queue::backfill::EnqueueCheckpoint,
};
use tokio::sync::mpsc;

/// A chunk takes no further row once it holds this many bytes of jobs.
const CHUNK_BYTES: usize = 1 << 20;
/// Of rows that look alike, this many are named.
const MAX_LOOKALIKES_NAMED: u64 = 20;

/// The job of a row that is to be enqueued.
pub(super) struct RowJob {
    pub(super) row: u64,
    pub(super) partition: u16,
    /// The fingerprint of the customer.
    pub(super) customer: u64,
    pub(super) json: String,
}

/// Some rows to enqueue, in order.
pub(super) struct Chunk {
    pub(super) jobs: Vec<RowJob>,
}

/// Reads all rows and sends those that no run has enqueued yet, at most `max_rows` in a chunk. Ends early if nobody receives.
pub(super) fn read(
    mut rows: Rows,
    checkpoints: &[EnqueueCheckpoint],
    max_rows: usize,
    fingerprints: &Fingerprints,
    to: &mpsc::Sender<Chunk>,
) -> Result<(), BackfillError> {
    let mut jobs = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if let RowVerdict::Valid { reference, email, job, partition } = row.verdict
            && checkpoints.get(usize::from(partition)).is_none_or(|checkpoint| row.number > checkpoint.row)
        {
            bytes += job.len();
            let customer = fingerprints.of(&reference, &email);
            jobs.push(RowJob { row: row.number, partition, customer, json: job });
        }
        if jobs.len() >= max_rows || bytes >= CHUNK_BYTES {
            bytes = 0;
            if to.blocking_send(Chunk { jobs: std::mem::take(&mut jobs) }).is_err() {
                return Ok(());
            }
        }
    }
    // Whether the last chunk is received or not, all rows are read.
    let _ = to.blocking_send(Chunk { jobs });
    Ok(())
}

/// What the rows of all files are.
pub(super) struct Checked {
    pub(super) counts: RowCounts,
    pub(super) reasons: Vec<Reason>,
    /// Bytes of the jobs of valid rows.
    pub(super) job_bytes: u64,
    pub(super) conversions: Vec<Conversion>,
}

/// Reads all rows, enqueues none, and writes `FILE.rejected.csv`.
pub(super) fn check_all(
    mut rows: Rows,
    file_names: Vec<String>,
    progress: &dyn Progress,
) -> Result<Checked, BackfillError> {
    let mut rejects = Rejects::create(&rows)?;
    let has_corrections = rows.inputs().last().is_some_and(|input| input.part > 0);
    let mut summary = Summary::new(file_names, has_corrections);
    let mut job_bytes = 0;
    while let Some(row) = rows.next()? {
        summary.add(&row);
        note_alike(&row, summary.counts().lookalikes, progress);
        if let RowVerdict::Valid { job, .. } = &row.verdict {
            job_bytes += job.len() as u64;
        }
        rejects.write(&row)?;
    }
    rejects.finish()?;
    let (counts, conversions) = (summary.counts(), rows.conversions());
    Ok(Checked { counts, reasons: summary.into_reasons(), job_bytes, conversions })
}

/// Names a reference that looks like an earlier one: XCO takes them for two customers, and often one of them is a mistake.
/// `count` such references were found so far.
fn note_alike(row: &Row, count: u64, progress: &dyn Progress) {
    if let Some(first) = row.alike.as_ref().filter(|_| count <= MAX_LOOKALIKES_NAMED) {
        progress.note(&format!(
            "line {}: the customer_reference looks like that of {first}, and is written in another Unicode form",
            row.line
        ));
    }
}
