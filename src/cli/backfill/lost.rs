//! Rows whose completions were trimmed before they were collected: they have ended, and how is not known.
//!
//! A row is lost where it was enqueued, has no result, and its job neither waits nor runs, in two looks with everything
//! collected in between: a job changes places, and its completion may be written just then.

use super::plan::Plan;
use crate::{
    backfill::{RowResult, Rows, Verdict},
    contract::{EntryId, Lane, look_into},
    queue::{
        Keys, Link, Source,
        backfill::{self, MAX_ROWS, Mark, RESULT_BYTES, Update},
        control::scan_parked,
        find,
    },
};
use anyhow::Context as _;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Jobs looked at in one step.
const STEP: usize = 1000;
/// Results fetched at once.
const PAGE_ROWS: u64 = 16 * 1024;

/// The search for them.
#[derive(Default)]
pub(super) struct Lost {
    /// Found at the last look.
    suspects: BTreeSet<u64>,
    looked: Option<Instant>,
}

impl Lost {
    /// Whether it is time for a look.
    pub(super) fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY)
    }

    /// Looks once more, everything having been collected before. Rows that are lost for the second time are settled as
    /// unknown; how many were.
    pub(super) async fn look(&mut self, link: &mut Link, keys: &[Keys], plan: &Plan) -> anyhow::Result<u64> {
        let mut marks = Vec::with_capacity(keys.len());
        for keys in keys {
            marks.push(backfill::mark(link, keys, &plan.batch).await?);
        }
        let mut alive = BTreeSet::new();
        for keys in keys {
            alive_in(link, keys, &plan.batch, &mut alive).await?;
        }
        let partitions = u16::try_from(keys.len()).unwrap_or(u16::MAX);
        let rows = Rows::open(plan.files.clone(), plan.layout.clone(), plan.target(partitions), Arc::default())?;
        let enqueued =
            tokio::task::spawn_blocking(move || enqueued(rows, &marks)).await.context("reading the files")??;
        let missing = without_result(link, &keys[0], &plan.batch, enqueued, &alive).await?;
        let settled: Vec<Update> = missing.intersection(&self.suspects).map(|row| Update::unknown(*row)).collect();
        for updates in settled.chunks(MAX_ROWS) {
            backfill::record(link, &keys[0], &plan.batch, updates).await?;
        }
        self.suspects = missing;
        self.looked = Some(Instant::now());
        Ok(settled.len() as u64)
    }
}

/// The rows that were enqueued, in order.
fn enqueued(mut rows: Rows, marks: &[Mark]) -> anyhow::Result<Vec<u64>> {
    let highest = marks.iter().map(|mark| mark.row).max().unwrap_or(0);
    let mut enqueued = Vec::new();
    while let Some(row) = rows.next()? {
        if row.number > highest {
            break;
        }
        if let Verdict::Valid { partition, .. } = row.verdict
            && marks.get(usize::from(partition)).is_some_and(|mark| row.number <= mark.row)
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
) -> redis::RedisResult<BTreeSet<u64>> {
    let mut missing = BTreeSet::new();
    let (mut from, mut results) = (0, Vec::new());
    for row in rows {
        if from == 0 || row >= from + PAGE_ROWS {
            from = row;
            results = backfill::results(link, first, batch, from, PAGE_ROWS).await?;
        }
        let at = usize::try_from(row - from).unwrap_or(usize::MAX).saturating_mul(RESULT_BYTES);
        let result = results.get(at..at.saturating_add(RESULT_BYTES)).unwrap_or_default();
        if !RowResult::decode(result).outcome.is_final() && !alive.contains(&row) {
            missing.insert(row);
        }
    }
    Ok(missing)
}

/// Notes the rows whose jobs wait or run in a partition.
async fn alive_in(link: &mut Link, keys: &Keys, batch: &str, alive: &mut BTreeSet<u64>) -> redis::RedisResult<()> {
    let mut cursor = 0;
    loop {
        let (next, parked) = scan_parked(link, keys, cursor, STEP).await?;
        alive.extend(parked.iter().filter_map(|parked| row_of(&parked.job, batch)));
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

/// The row that a job of the batch is about.
fn row_of(job: &[u8], batch: &str) -> Option<u64> {
    let job = look_into(std::str::from_utf8(job).ok()?)?;
    let rest = job["id"].as_str()?.strip_prefix(batch)?.strip_prefix('/')?;
    rest.strip_suffix("/absent").unwrap_or(rest).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::row_of;

    #[test]
    fn a_job_tells_its_row() {
        assert_eq!(row_of(br#"{"id":"b/12"}"#, "b"), Some(12));
        assert_eq!(row_of(br#"{"id":"b/12/absent"}"#, "b"), Some(12));
        for other in [&br#"{"id":"bb/12"}"#[..], br#"{"id":"b/x"}"#, b"[]", b"\xff"] {
            assert_eq!(row_of(other, "b"), None);
        }
    }
}
