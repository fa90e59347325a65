//! Rows whose completions were trimmed before they were collected: they have ended with an unknown outcome.
//!
//! A row is lost if it was enqueued, has no result, and its job is neither waiting nor running. Two looks must find that, with
//! everything collected in between: a job can move while it is looked for, and its completion may just be written.

use super::BackfillError;
use crate::{
    backfill::{Identity, RowResult, RowVerdict, Rows, RowsError},
    contract::{EntryId, Lane, look_into},
    operations::Backend,
    queue::{
        Keys, Link, Source,
        backfill::{self, EnqueueCheckpoint, MAX_ROWS, RESULT_BYTES, ResultUpdate},
        find,
        rules::scan_delayed,
    },
};
use redis::RedisResult;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Delay between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Rows whose results are fetched at once.
pub(super) const RESULT_PAGE_ROWS: u64 = 16 * 1024;
/// Jobs examined in one step.
const STEP: usize = 1000;

/// The search for lost rows.
#[derive(Default)]
pub(super) struct Lost {
    /// The rows that the last look found.
    suspects: BTreeSet<u64>,
    looked_at: Option<Instant>,
}

impl Lost {
    /// Whether it is time for a look.
    pub(super) fn is_due(&self) -> bool {
        self.looked_at.is_none_or(|looked_at| looked_at.elapsed() >= LOOK_EVERY)
    }

    /// Looks once more. Everything must have been collected before. Rows found for the second time are recorded as unknown;
    /// returns their number.
    pub(super) async fn look(
        &mut self,
        backend: &mut Backend<'_>,
        keys: &[Keys],
        identity: &Identity,
    ) -> Result<u64, BackfillError> {
        let (batch, failed) = (identity.batch(), backend.failed());
        let link = &mut backend.link;
        let (checkpoints, alive) = jobs_of(link, keys, batch).await.map_err(&failed)?;
        let rows = identity.rows(Arc::default())?;
        let enqueued = tokio::task::spawn_blocking(move || enqueued(rows, &checkpoints)).await??;
        let missing = without_result(link, &keys[0], batch, enqueued, &alive).await.map_err(&failed)?;
        let settled: Vec<_> = missing.intersection(&self.suspects).map(|row| ResultUpdate::unknown(*row)).collect();
        for updates in settled.chunks(MAX_ROWS) {
            backfill::record_results(link, &keys[0], batch, updates).await.map_err(&failed)?;
        }
        self.suspects = missing;
        self.looked_at = Some(Instant::now());
        Ok(settled.len() as u64)
    }
}

/// The checkpoint of each partition, and the rows whose jobs wait or run.
async fn jobs_of(link: &mut Link, keys: &[Keys], batch: &str) -> RedisResult<(Vec<EnqueueCheckpoint>, BTreeSet<u64>)> {
    let mut checkpoints = Vec::with_capacity(keys.len());
    for keys in keys {
        checkpoints.push(backfill::checkpoint(link, keys, batch).await?);
    }
    let mut alive = BTreeSet::new();
    for keys in keys {
        alive_in(link, keys, batch, &mut alive).await?;
    }
    Ok((checkpoints, alive))
}

/// The rows that were enqueued, in order.
fn enqueued(mut rows: Rows, checkpoints: &[EnqueueCheckpoint]) -> Result<Vec<u64>, RowsError> {
    let highest = checkpoints.iter().map(|checkpoint| checkpoint.row).max().unwrap_or(0);
    let mut enqueued = Vec::new();
    while let Some(row) = rows.next()? {
        if row.number > highest {
            break;
        }
        if let RowVerdict::Valid { partition, .. } = row.verdict
            && checkpoints.get(usize::from(partition)).is_some_and(|checkpoint| row.number <= checkpoint.row)
        {
            enqueued.push(row.number);
        }
    }
    Ok(enqueued)
}

async fn without_result(
    link: &mut Link,
    first: &Keys,
    batch: &str,
    rows: Vec<u64>,
    alive: &BTreeSet<u64>,
) -> RedisResult<BTreeSet<u64>> {
    let mut missing = BTreeSet::new();
    let (mut from, mut results) = (0, Vec::new());
    for row in rows {
        if from == 0 || row >= from + RESULT_PAGE_ROWS {
            from = row;
            results = backfill::results(link, first, batch, from, RESULT_PAGE_ROWS).await?;
        }
        let at = usize::try_from(row - from).unwrap_or(usize::MAX).saturating_mul(RESULT_BYTES);
        let result = results.get(at..at.saturating_add(RESULT_BYTES)).unwrap_or_default();
        if !RowResult::decode(result).outcome.is_final() && !alive.contains(&row) {
            missing.insert(row);
        }
    }
    Ok(missing)
}

/// Adds the rows whose jobs wait or run in a partition.
async fn alive_in(link: &mut Link, keys: &Keys, batch: &str, alive: &mut BTreeSet<u64>) -> RedisResult<()> {
    let mut cursor = 0;
    loop {
        let (next, delayed) = scan_delayed(link, keys, cursor, STEP).await?;
        alive.extend(delayed.iter().filter_map(|delayed| row_of(&delayed.job, batch)));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    for source in [Source::Due, Source::Jobs] {
        let mut after: Option<EntryId> = None;
        loop {
            let page = find::page(link, keys, Lane::Bulk, source, after, STEP).await?;
            alive.extend(page.iter().filter_map(|entry| row_of(&entry.job, batch)));
            after = page.last().map(|entry| entry.id);
            if page.len() < STEP {
                break;
            }
        }
    }
    Ok(())
}

/// The row of a job, if the job belongs to the batch.
fn row_of(job: &[u8], batch: &str) -> Option<u64> {
    let job = look_into(std::str::from_utf8(job).ok()?)?;
    let rest = job["id"].as_str()?.strip_prefix(batch)?.strip_prefix('/')?;
    rest.strip_suffix("/absent").unwrap_or(rest).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::row_of;

    #[test]
    fn a_job_of_the_batch_has_a_row() {
        assert_eq!(row_of(br#"{"id":"b/12"}"#, "b"), Some(12));
        assert_eq!(row_of(br#"{"id":"b/12/absent"}"#, "b"), Some(12));
        for other in [&br#"{"id":"bb/12"}"#[..], br#"{"id":"b/x"}"#, b"[]", b"\xff"] {
            assert_eq!(row_of(other, "b"), None);
        }
    }
}
