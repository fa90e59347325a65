//! The thread that reads: it checks rows and passes them on in bounded chunks.

use super::BackfillError;
use crate::{
    backfill::{Row, RowCounts, RowVerdict, Rows, output::Rejects},
    operations::Progress,
    queue::backfill::EnqueueCheckpoint,
};
use tokio::sync::mpsc;

/// A chunk takes no further row once it holds this many bytes of jobs.
const CHUNK_BYTES: usize = 1 << 20;
/// A chunk is sent after this many rows, however few of them are enqueued, so that the counts stay current.
const CHUNK_ROWS: u64 = 5000;
/// Of rows that look alike, this many are named.
const MAX_LOOKALIKES_NAMED: u64 = 20;

/// The job of a row that is to be enqueued.
pub(super) struct RowJob {
    pub(super) row: u64,
    pub(super) partition: u16,
    pub(super) json: String,
}

/// Some rows to enqueue, in order, and the counts up to there.
pub(super) struct Chunk {
    pub(super) jobs: Vec<RowJob>,
    pub(super) counts: RowCounts,
}

/// Reads all rows and sends those that no run has enqueued yet, at most `max_rows` in a chunk. Ends early if nobody receives.
pub(super) fn read(
    mut rows: Rows,
    mut rejects: Rejects,
    checkpoints: &[EnqueueCheckpoint],
    max_rows: usize,
    to: &mpsc::Sender<Chunk>,
    progress: &dyn Progress,
) -> Result<RowCounts, BackfillError> {
    let mut counts = RowCounts::default();
    let mut jobs = Vec::new();
    let (mut bytes, mut sent_at) = (0, 0);
    while let Some(row) = rows.next()? {
        count(&row, &mut counts, progress);
        rejects.write(&row)?;
        if let RowVerdict::Valid { job, partition, .. } = row.verdict
            && checkpoints.get(usize::from(partition)).is_none_or(|checkpoint| row.number > checkpoint.row)
        {
            bytes += job.len();
            jobs.push(RowJob { row: row.number, partition, json: job });
        }
        if jobs.len() >= max_rows || bytes >= CHUNK_BYTES || counts.rows >= sent_at + CHUNK_ROWS {
            (bytes, sent_at) = (0, counts.rows);
            rejects.flush()?;
            if to.blocking_send(Chunk { jobs: std::mem::take(&mut jobs), counts }).is_err() {
                return Ok(counts);
            }
        }
    }
    rejects.flush()?;
    // The counts are returned, whether or not the last chunk is received.
    let _ = to.blocking_send(Chunk { jobs, counts });
    Ok(counts)
}

/// Reads all rows and enqueues none.
pub(super) fn check_all(
    mut rows: Rows,
    mut rejects: Rejects,
    progress: &dyn Progress,
) -> Result<RowCounts, BackfillError> {
    let mut counts = RowCounts::default();
    while let Some(row) = rows.next()? {
        count(&row, &mut counts, progress);
        rejects.write(&row)?;
    }
    rejects.flush()?;
    Ok(counts)
}

/// Counts a row. Names a reference that looks like an earlier one: XCO takes them for two customers, and often one of them is a
/// mistake.
fn count(row: &Row, counts: &mut RowCounts, progress: &dyn Progress) {
    counts.add(&row.verdict);
    let Some(first) = &row.alike else { return };
    counts.lookalikes += 1;
    if counts.lookalikes <= MAX_LOOKALIKES_NAMED {
        progress.note(&format!(
            "line {}: the customer_reference looks like that of {first}, and is written in another Unicode form",
            row.line
        ));
    }
}
