//! The thread that reads: rows are judged where files are read, and go on in bounded chunks.

use super::files::Rejects;
use crate::{
    backfill::{Counts, Row, Rows, Verdict},
    cli::say,
    queue::backfill::Mark,
};
use tokio::sync::mpsc;

/// A chunk ends with either, so that whoever receives it stays in the picture.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_ROWS: u64 = 5000;

/// A row to enqueue.
pub(super) struct Job {
    pub(super) row: u64,
    pub(super) partition: u16,
    pub(super) json: String,
}

/// Some rows to enqueue, in order, and what was read up to there.
pub(super) struct Chunk {
    pub(super) jobs: Vec<Job>,
    pub(super) counts: Counts,
}

/// Reads everything and hands on what was not enqueued before, at most `most` rows at once. Ends early where nobody
/// receives.
pub(super) fn read(
    mut rows: Rows,
    mut rejects: Rejects,
    marks: &[Mark],
    most: usize,
    to: &mpsc::Sender<Chunk>,
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let mut jobs = Vec::new();
    let (mut bytes, mut told) = (0, 0);
    while let Some(row) = rows.next()? {
        counts.add(&row.verdict);
        tell_alike(&row, &mut counts);
        rejects.write(&row)?;
        if let Verdict::Valid { job, partition, .. } = row.verdict
            && marks.get(usize::from(partition)).is_none_or(|mark| row.number > mark.row)
        {
            bytes += job.len();
            jobs.push(Job { row: row.number, partition, json: job });
        }
        if jobs.len() >= most || bytes >= CHUNK_BYTES || counts.rows >= told + CHUNK_ROWS {
            (bytes, told) = (0, counts.rows);
            rejects.flush()?;
            if to.blocking_send(Chunk { jobs: std::mem::take(&mut jobs), counts }).is_err() {
                return Ok(counts);
            }
        }
    }
    rejects.flush()?;
    // Whether it is received does not matter here.
    let _ = to.blocking_send(Chunk { jobs, counts });
    Ok(counts)
}

/// Reads everything and enqueues nothing.
pub(super) fn judge_all(mut rows: Rows, mut rejects: Rejects) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    while let Some(row) = rows.next()? {
        counts.add(&row.verdict);
        tell_alike(&row, &mut counts);
        rejects.write(&row)?;
    }
    rejects.flush()?;
    Ok(counts)
}

/// Of so many rows each is named.
const MOST_ALIKE: u64 = 20;

/// Points out a reference that looks like another's: two customers for XCO, and often one by mistake.
fn tell_alike(row: &Row, counts: &mut Counts) {
    let Some(first) = &row.alike else { return };
    counts.lookalikes += 1;
    if counts.lookalikes <= MOST_ALIKE {
        say(&format!(
            "line {}: the customer_reference looks like that of {first}, and is written in another Unicode form",
            row.line
        ));
    }
}
