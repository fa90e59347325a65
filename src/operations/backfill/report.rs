//! Reports how far a backfill is, and writes `FILE.results.csv`.

use super::{
    BackfillError,
    collector::Collector,
    created_before,
    feeder::note_lost,
    file_report::FileReport,
    lost::{self, Lost, RESULT_PAGE_ROWS},
    stored::{StoredCounts, restore},
};
use crate::{
    backfill::{
        Identity, Original, OutcomeCounts, Reason, Row, RowCounts, RowResult, RowVerdict, RowsError,
        output::{self, Results},
    },
    contract::ErrorKind,
    operations::{Backend, Progress},
    queue::{
        Keys, Link,
        backfill::{self, EnqueueCheckpoint},
    },
};
use redis::RedisResult;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::mpsc;

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackfillReport {
    /// The batch.
    pub batch: String,
    /// Whether every valid row has ended.
    pub complete: bool,
    /// Number of rows by verdict; null if an older version began the backfill and has not read the files to the end.
    #[serde(flatten)]
    pub counts: CountsReport,
    /// Why rows were not enqueued, the most frequent reason first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Rows that were enqueued.
    pub enqueued: u64,
    /// Rows that have ended.
    pub ended: u64,
    /// Rows that are enqueued and have not ended.
    pub pending: u64,
    /// Rows that have ended, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Rows without success, by error kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Batches of which Redis does not know (any more) whom they created: such customers count as `needs_consent`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
    /// Each file, with the files that were written; empty if no result file was written.
    pub files: Vec<FileReport>,
    /// Why no result file was written.
    #[serde(skip)]
    pub no_results: Option<String>,
}

/// Number of rows by verdict. Its fields are null until a run has read the files to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountsReport(pub Option<RowCounts>);

impl Serialize for CountsReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields {
            rows: Option<u64>,
            valid: Option<u64>,
            rejected: Option<u64>,
            duplicates: Option<u64>,
            lookalikes: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            corrected: Option<u64>,
        }
        let counts = self.0;
        let fields = Fields {
            rows: counts.map(|counts| counts.rows),
            valid: counts.map(|counts| counts.valid),
            rejected: counts.map(|counts| counts.rejected),
            duplicates: counts.map(|counts| counts.duplicates),
            lookalikes: counts.map(|counts| counts.lookalikes),
            corrected: counts.map(|counts| counts.corrected).filter(|corrected| *corrected > 0),
        };
        fields.serialize(serializer)
    }
}

/// The state of a backfill in Redis.
struct Standing {
    /// What the files hold; `None` until a run has read them to the end.
    counts: Option<RowCounts>,
    /// By partition.
    checkpoints: Vec<EnqueueCheckpoint>,
    tally: OutcomeCounts,
    /// Batches of which Redis does not know whom they created.
    not_compared: Vec<String>,
}

impl Standing {
    fn is_complete(&self) -> bool {
        self.counts.is_some_and(|counts| counts.valid == self.tally.total())
    }
}

/// Collects the completions that there are, writes `FILE.results.csv` of each file, and reports. Without the files, or with
/// other ones, no result file is written.
///
/// # Errors
/// [`BackfillError::UnknownBatch`]: no backfill has this batch. Else a file or Redis cannot be used.
pub async fn report(
    backend: &mut Backend<'_>,
    batch: &str,
    progress: &dyn Progress,
) -> Result<BackfillReport, BackfillError> {
    let (keys, failed) = (backend.keys(), backend.failed());
    let stored = backfill::stored(&mut backend.link, &keys[0], batch).await.map_err(&failed)?;
    let Some(stored) = stored else { return Err(BackfillError::UnknownBatch(batch.to_owned())) };
    let identity = restore(batch, &stored, backend.redis().partitions);
    collect(backend, &keys, batch, identity.as_ref().ok(), progress).await?;
    let held = stored.counts.and_then(|counts| serde_json::from_str::<StoredCounts>(&counts).ok());
    let (counts, reasons) = held.map_or((None, Vec::new()), |held| (Some(held.counts), held.reasons));
    let standing = standing(&mut backend.link, &keys, batch, counts).await.map_err(failed)?;
    let of_batch = stored.has_own_results.then_some(batch);
    let (files, no_results) = match identity {
        Ok(identity) => {
            let files = FileReport::with_results(&identity.rows(Arc::default())?, of_batch);
            write_results(backend, &keys[0], &identity, &standing, of_batch).await?;
            (files, None)
        }
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let enqueued = standing.checkpoints.iter().map(|checkpoint| checkpoint.enqueued).sum::<u64>();
    let ended = standing.tally.total();
    Ok(BackfillReport {
        batch: batch.to_owned(),
        complete: standing.is_complete(),
        counts: CountsReport(standing.counts),
        reasons,
        enqueued,
        ended,
        pending: enqueued.saturating_sub(ended),
        outcomes: standing.tally.outcomes,
        errors: standing.tally.errors,
        not_compared: standing.not_compared,
        files,
        no_results,
    })
}

/// Collects everything, and looks for lost rows if completions were trimmed.
async fn collect(
    backend: &mut Backend<'_>,
    keys: &[Keys],
    batch: &str,
    identity: Option<&Identity>,
    progress: &dyn Progress,
) -> Result<(), BackfillError> {
    let failed = backend.failed();
    let mut collector = Collector::start(&mut backend.link, keys.to_vec(), batch).await.map_err(&failed)?;
    while collector.step(&mut backend.link).await.map_err(&failed)? {}
    let Some(identity) = identity.filter(|_| collector.has_missed()) else { return Ok(()) };
    let mut lost = Lost::default();
    lost.look(backend, keys, identity).await?;
    tokio::time::sleep(lost::LOOK_EVERY).await;
    while collector.step(&mut backend.link).await.map_err(&failed)? {}
    note_lost(progress, lost.look(backend, keys, identity).await?);
    Ok(())
}

/// Reads the state. Completions are no longer kept for a backfill that is complete.
async fn standing(link: &mut Link, keys: &[Keys], batch: &str, counts: Option<RowCounts>) -> RedisResult<Standing> {
    let mut checkpoints = Vec::with_capacity(keys.len());
    for keys in keys {
        checkpoints.push(backfill::checkpoint(link, keys, batch).await?);
    }
    let not_compared = created_before::mark(link, &keys[0], batch, last_row(&checkpoints)).await?;
    let tally = tally(link, &keys[0], batch, &checkpoints).await?;
    let standing = Standing { counts, checkpoints, tally, not_compared };
    if standing.is_complete() {
        for keys in keys {
            backfill::drop_group(link, keys, batch).await?;
        }
    }
    Ok(standing)
}

/// The highest row that is enqueued.
fn last_row(checkpoints: &[EnqueueCheckpoint]) -> u64 {
    checkpoints.iter().map(|checkpoint| checkpoint.row).max().unwrap_or(0)
}

pub(super) async fn tally(
    link: &mut Link,
    first: &Keys,
    batch: &str,
    checkpoints: &[EnqueueCheckpoint],
) -> RedisResult<OutcomeCounts> {
    let last = last_row(checkpoints);
    let mut tally = OutcomeCounts::default();
    let mut from = 1;
    while from <= last {
        let count = RESULT_PAGE_ROWS.min(last - from + 1);
        tally.add(&backfill::results(link, first, batch, from, count).await?);
        from += count;
    }
    Ok(tally)
}

/// Reads the files once more and writes the result of each valid row.
async fn write_results(
    backend: &mut Backend<'_>,
    first: &Keys,
    identity: &Identity,
    standing: &Standing,
    of_batch: Option<&str>,
) -> Result<(), BackfillError> {
    let failed = backend.failed();
    let mut rows = identity.rows(Arc::default())?;
    let (sender, mut chunks) = mpsc::channel::<Vec<Row>>(2);
    let reader = tokio::task::spawn_blocking(move || -> Result<(), RowsError> {
        let mut chunk = Vec::new();
        loop {
            let row = rows.next()?;
            let is_last = row.is_none();
            chunk.extend(row.map(without_job));
            let is_full = is_last || chunk.len() as u64 == RESULT_PAGE_ROWS;
            if is_full && sender.blocking_send(std::mem::take(&mut chunk)).is_err() || is_last {
                return Ok(());
            }
        }
    });
    let files = identity.first_files().iter().map(|path| Results::create(output::results(path, of_batch)));
    let mut files = files.collect::<Result<Vec<_>, _>>()?;
    while let Some(chunk) = chunks.recv().await {
        let (Some(from), Some(to)) = (chunk.first(), chunk.last()) else { continue };
        let (from, count) = (from.number, to.number - from.number + 1);
        let results = backfill::results(&mut backend.link, first, identity.batch(), from, count).await;
        let results = results.map_err(&failed)?;
        let mut results = results.chunks(RowResult::BYTES);
        for row in chunk {
            let result = RowResult::decode(results.next().unwrap_or_default());
            // A corrected row is reported with the file that it was wrong in.
            let file = Some(row.place().file).filter(|file| *file < files.len()).unwrap_or(0);
            if let (RowVerdict::Valid { reference, partition, .. }, Some(file)) = (&row.verdict, files.get_mut(file)) {
                let checkpoint = standing.checkpoints.get(usize::from(*partition));
                let is_enqueued = checkpoint.is_some_and(|checkpoint| row.number <= checkpoint.row);
                let outcome = if is_enqueued { result.outcome.as_str() } else { "not_enqueued" };
                file.write(reference, outcome, result.error.map_or("", ErrorKind::as_str), result.attempts)?;
            }
        }
    }
    reader.await??;
    files.into_iter().try_for_each(Results::finish)?;
    Ok(())
}

fn without_job(mut row: Row) -> Row {
    if let RowVerdict::Valid { job, .. } = &mut row.verdict {
        *job = String::new();
    }
    row.original = Original::Text(Vec::new());
    row
}
