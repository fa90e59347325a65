//! Opens a backfill, checks its rows, and takes its batch over.

use super::{
    BackfillError, BackfillProgress, FileReport,
    collector::Collector,
    feeder::{EnqueueRate, Feeder},
    reader,
};
use crate::{
    backfill::{Identity, RowCounts, Rows, RowsError, describe_stored, output::Rejects},
    config::Rate,
    operations::{Actor, Backend, Progress},
    queue::backfill::{self, MAX_ROWS, StoredIdentity},
};
use serde::Serialize;
use serde_json::json;
use std::{
    fs,
    sync::{Arc, atomic::AtomicU64},
};
use tokio::sync::mpsc;

/// Limits of one run. They are no part of the backfill's identity: each run may have other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedLimits {
    /// Maximum number of rows that are enqueued and have not ended.
    pub window: u64,
    /// Maximum rate of rows; `None`: as fast as the window allows.
    pub rate: Option<Rate>,
}

/// The files of a backfill, open to be read.
pub struct Backfill {
    identity: Identity,
    rows: Rows,
    bytes_read: Arc<AtomicU64>,
}

/// What the files hold, after a check that enqueued nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The batch that the rows would belong to.
    pub batch: String,
    dry_run: bool,
    /// Number of rows by verdict.
    #[serde(flatten)]
    pub counts: RowCounts,
    /// Each file, with the file of its rejected rows.
    pub files: Vec<FileReport>,
}

impl Backfill {
    /// Opens the files.
    ///
    /// # Errors
    /// [`BackfillError::Rows`]: a file cannot be read, or its header lacks a column.
    pub fn open(identity: Identity) -> Result<Self, BackfillError> {
        let bytes_read = Arc::default();
        let rows = identity.rows(Arc::clone(&bytes_read))?;
        Ok(Self { identity, rows, bytes_read })
    }

    /// Checks every row and writes `FILE.rejected.csv`. Nothing is enqueued, and Redis is not needed.
    ///
    /// # Errors
    /// [`BackfillError`]: a file cannot be read or written.
    pub async fn check(self, progress: Arc<dyn Progress>) -> Result<CheckReport, BackfillError> {
        let Self { identity, rows, .. } = self;
        let rejects = Rejects::create(identity.files())?;
        let counts = tokio::task::spawn_blocking(move || reader::check_all(rows, rejects, &*progress)).await??;
        let files = identity.files().iter().map(|file| FileReport::rejected(file)).collect();
        Ok(CheckReport { batch: identity.batch().to_owned(), dry_run: true, counts, files })
    }

    /// Takes the batch over and begins to read: from here on no other run enqueues its rows. Whoever starts it is recorded in
    /// the audit stream.
    ///
    /// # Errors
    /// [`BackfillError::OtherBackfill`]: the batch belongs to other files or flags. Else a file or Redis cannot be used.
    pub async fn start(
        self,
        backend: &mut Backend<'_>,
        actor: &Actor,
        limits: FeedLimits,
        progress: Arc<dyn BackfillProgress>,
    ) -> Result<Feeder, BackfillError> {
        let Self { identity, rows, bytes_read } = self;
        register(backend, actor, &identity).await?;
        let rejects = Rejects::create(identity.files())?;
        let bytes = bytes_of(&identity)?;
        let (keys, failed) = (backend.keys(), backend.failed());
        let run = uuid::Uuid::new_v4().to_string();
        let link = &mut backend.link;
        let mut checkpoints = Vec::with_capacity(keys.len());
        for keys in &keys {
            checkpoints.push(backfill::take_over(link, keys, identity.batch(), &run).await.map_err(&failed)?);
        }
        let collector = Collector::start(link, keys.clone(), identity.batch()).await.map_err(failed)?;
        progress.note(&format!("batch {}", identity.batch()));
        let max_rows = chunk_rows(limits);
        let (sender, chunks) = mpsc::channel(4);
        let reader = {
            let (checkpoints, progress) = (checkpoints.clone(), Arc::clone(&progress));
            tokio::task::spawn_blocking(move || {
                reader::read(rows, rejects, &checkpoints, max_rows, &sender, &*progress)
            })
        };
        Ok(Feeder {
            identity,
            keys,
            run,
            checkpoints,
            collector,
            window: limits.window,
            pace: limits.rate.map(EnqueueRate::new),
            chunks,
            reader: Some(reader),
            bytes_read,
            bytes,
            progress,
        })
    }
}

/// Rows in a chunk. It is at most a tenth of a second's worth, so that the rows keep an even rate, and at most a part of the
/// window, so that the window stays full.
fn chunk_rows(FeedLimits { window, rate }: FeedLimits) -> usize {
    let by_rate = rate.map_or(MAX_ROWS as u64, |rate| 100_000 / rate.interval_us.max(1));
    let rows = by_rate.min(window / 4).clamp(1, MAX_ROWS as u64);
    usize::try_from(rows).unwrap_or(MAX_ROWS)
}

fn bytes_of(identity: &Identity) -> Result<u64, RowsError> {
    let lengths = identity.files().iter().map(|file| {
        let length = fs::metadata(file).map(|metadata| metadata.len());
        length.map_err(|error| RowsError::Io { file: file.clone(), error })
    });
    lengths.sum()
}

/// Stores the identity of the batch, or checks that it is the same as before. Records the action first.
async fn register(backend: &mut Backend<'_>, actor: &Actor, identity: &Identity) -> Result<(), BackfillError> {
    let (first, namespace, failed) = (backend.common_keys(), backend.namespace(), backend.failed());
    let link = &mut backend.link;
    let (batch, fingerprint) = (identity.batch(), identity.fingerprint());
    let before = backfill::identity(link, &first, batch).await.map_err(&failed)?;
    let what = json!({"batch": batch, "files": identity.file_names(), "fingerprint": &fingerprint[..16],
        "resumed": before.is_some()});
    actor.record(link, namespace, "backfill", &what, 0).await.map_err(&failed)?;
    let wanted = StoredIdentity { fingerprint: fingerprint.to_owned(), json: identity.to_json() };
    let stored = backfill::register(link, &first, batch, &wanted).await.map_err(failed)?;
    if stored.fingerprint == fingerprint {
        return Ok(());
    }
    let begun_with = describe_stored(&stored.json);
    Err(BackfillError::OtherBackfill { batch: batch.to_owned(), begun_with })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_fits_the_rate_and_the_window() {
        let rows = |window, interval_us: Option<u64>| {
            chunk_rows(FeedLimits { window, rate: interval_us.map(|interval_us| Rate { interval_us }) })
        };
        assert_eq!(rows(10_000, None), MAX_ROWS);
        assert_eq!(rows(40, None), 10);
        assert_eq!(rows(1, None), 1);
        assert_eq!(rows(10_000, Some(10_000)), 10);
        assert_eq!(rows(10_000, Some(1_000_000)), 1);
    }
}
