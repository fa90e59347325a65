//! Opens a backfill, checks its rows, and takes its batch over.

use super::{
    BackfillError, BackfillProgress, MaxRejected,
    check_report::CheckReport,
    collector::Collector,
    created_before,
    feeder::{EnqueueRate, Feeder},
    file_report::FileReport,
    hindrance::Watch,
    reader,
    report::tally,
    stored::{StoredCounts, restore},
    window::{MAX_WINDOW, Window},
};
use crate::{
    backfill::{Correction, Identity, Ignored, Rows, describe_stored, output, stored_files},
    config::Rate,
    operations::{Actor, Backend, Progress},
    queue::{
        backfill::{self, MAX_CORRECTIONS, MAX_ROWS, StoredIdentity},
        clock::now_ms,
    },
};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Limits of one run. They are no part of the backfill's identity: each run may have other ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedLimits {
    /// Maximum number of rows that are enqueued and have not ended. `None`: as many as end within half a minute, and at most
    /// 10,000, so that rows are created soon after they are looked up.
    pub window: Option<u64>,
    /// Maximum rate of rows; `None`: as fast as the window allows.
    pub rate: Option<Rate>,
    /// Nothing is enqueued if more rows are rejected; `None`: any number may be.
    pub max_rejected: Option<MaxRejected>,
    /// The files may be those of another batch, whose customers are then looked up again.
    pub again: bool,
}

/// The files of a backfill.
pub struct Backfill {
    identity: Identity,
}

impl Backfill {
    /// Opens the files.
    ///
    /// # Errors
    /// [`BackfillError::Rows`]: a file cannot be read, or its header lacks a column.
    pub fn open(identity: Identity) -> Result<Self, BackfillError> {
        identity.rows(Arc::default())?.verify()?;
        Ok(Self { identity })
    }

    /// Opens the files of a batch that Redis knows, and `correction`, whose files correct rows of them.
    ///
    /// # Errors
    /// [`BackfillError::UnknownBatch`], [`BackfillError::Identity`]: the files of the batch are not what they were, or the
    /// correction is wrong. Else a file or Redis cannot be used.
    pub async fn correct(
        backend: &mut Backend<'_>,
        batch: &str,
        correction: Correction,
    ) -> Result<Self, BackfillError> {
        let (first, failed) = (backend.common_keys(), backend.failed());
        let stored = backfill::stored(&mut backend.link, &first, batch).await.map_err(failed)?;
        let Some(stored) = stored else { return Err(BackfillError::UnknownBatch(batch.to_owned())) };
        let mut identity = restore(batch, &stored, backend.redis().partitions)?;
        identity.correct(correction)?;
        if identity.corrections() > MAX_CORRECTIONS {
            return Err(BackfillError::TooManyCorrections);
        }
        Self::open(identity)
    }

    /// The batch that the rows belong to.
    pub fn batch(&self) -> &str {
        self.identity.batch()
    }

    /// Checks every row and writes `FILE.rejected.csv`. Nothing is enqueued, and Redis is not needed.
    ///
    /// # Errors
    /// [`BackfillError`]: a file cannot be read or written.
    pub async fn check(&self, progress: Arc<dyn Progress>) -> Result<CheckReport, BackfillError> {
        let rows = self.identity.rows(Arc::default())?;
        name_ignored(&self.identity, &rows, &*progress);
        self.check_rows(rows, progress).await
    }

    async fn check_rows(&self, rows: Rows, progress: Arc<dyn Progress>) -> Result<CheckReport, BackfillError> {
        let names = self.identity.file_names();
        let files = FileReport::of(&rows);
        let ignored_columns = ignored_columns(&rows);
        let checked = tokio::task::spawn_blocking(move || reader::check_all(rows, names, &*progress)).await??;
        let reader::Checked { counts, reasons, job_bytes, conversions } = checked;
        let (batch, dry_run, sizing) = (self.batch().to_owned(), true, None);
        Ok(CheckReport { batch, dry_run, counts, reasons, files, conversions, ignored_columns, sizing, job_bytes })
    }

    /// Checks every row, takes the batch over and begins to read: from here on no other run enqueues its rows. Whoever starts it
    /// is recorded in the audit stream.
    ///
    /// # Errors
    /// [`BackfillError::OtherBackfill`]: the batch belongs to other files or flags. [`BackfillError::TooManyRejected`]. Else a
    /// file or Redis cannot be used.
    pub async fn start(
        mut self,
        backend: &mut Backend<'_>,
        actor: &Actor,
        limits: FeedLimits,
        progress: Arc<dyn BackfillProgress>,
    ) -> Result<Feeder, BackfillError> {
        self.add_stored_corrections(backend).await?;
        if !limits.again {
            self.refuse_known_files(backend).await?;
        }
        let rows = self.identity.rows(Arc::default())?;
        let checked = self.check_rows(rows, Arc::clone(&progress) as Arc<dyn Progress>).await?;
        checked.require(limits.max_rejected)?;
        let Self { identity } = self;
        register(backend, actor, &identity, &checked).await?;
        let rows = identity.rows(Arc::default())?;
        let (keys, failed) = (backend.keys(), backend.failed());
        let run = uuid::Uuid::new_v4().to_string();
        let link = &mut backend.link;
        let mut checkpoints = Vec::with_capacity(keys.len());
        for keys in &keys {
            checkpoints.push(backfill::take_over(link, keys, identity.batch(), &run).await.map_err(&failed)?);
        }
        let collector = Collector::start(link, keys.clone(), identity.batch()).await.map_err(&failed)?;
        let looked_up = tally(link, &keys[0], identity.batch(), &checkpoints).await.map_err(&failed)?.looked_up;
        let salt = created_before::salt(link, &keys[0], identity.batch()).await.map_err(failed)?;
        let fingerprints = identity.fingerprints(&salt);
        progress.note(&format!("batch {}", identity.batch()));
        name_ignored(&identity, &rows, &*progress);
        let max_rows = chunk_rows(limits);
        let (sender, chunks) = mpsc::channel(4);
        let reader = {
            let checkpoints = checkpoints.clone();
            tokio::task::spawn_blocking(move || reader::read(rows, &checkpoints, max_rows, &fingerprints, &sender))
        };
        Ok(Feeder {
            identity,
            keys,
            run,
            checkpoints,
            collector,
            window: Window::new(limits.window),
            watch: Watch::default(),
            looked_up,
            pace: limits.rate.map(EnqueueRate::new),
            chunks,
            reader: Some(reader),
            checked,
            progress,
        })
    }

    /// Refuses a new batch of files that another batch has: they were probably corrected in place.
    async fn refuse_known_files(&self, backend: &mut Backend<'_>) -> Result<(), BackfillError> {
        let (first, failed) = (backend.common_keys(), backend.failed());
        let link = &mut backend.link;
        let listed = backfill::listed(link, &first).await.map_err(&failed)?;
        if listed.iter().any(|(batch, is_known, _)| *is_known && batch == self.batch()) {
            return Ok(());
        }
        for (batch, ..) in listed {
            let Some(stored) = backfill::stored(link, &first, &batch).await.map_err(&failed)? else { continue };
            let files = stored_files(&stored.identity.json);
            if let Some(file) = self.identity.first_files().iter().find(|file| files.contains(file)) {
                return Err(BackfillError::KnownFile { file: file.clone(), batch });
            }
        }
        Ok(())
    }

    /// Adds the corrections that earlier runs made.
    async fn add_stored_corrections(&mut self, backend: &mut Backend<'_>) -> Result<(), BackfillError> {
        let (first, failed) = (backend.common_keys(), backend.failed());
        let stored = backfill::stored(&mut backend.link, &first, self.batch()).await.map_err(failed)?;
        let Some(stored) = stored.filter(|stored| stored.identity.fingerprint == self.identity.fingerprint()) else {
            return Ok(());
        };
        for correction in stored.corrections.iter().skip(self.identity.corrections()) {
            self.identity.restore_correction(&correction.json, &correction.fingerprint)?;
        }
        Ok(())
    }
}

/// The columns of each file that are not read; nothing if there are none.
fn ignored_columns(rows: &Rows) -> Vec<Ignored> {
    let ignored = || rows.inputs().iter().map(|input| &input.ignored);
    if ignored().all(|ignored| ignored.names.is_empty()) { Vec::new() } else { ignored().cloned().collect() }
}

/// Names the columns that are not read: a column with another name than ours would otherwise be lost in silence.
fn name_ignored(identity: &Identity, rows: &Rows, progress: &(impl Progress + ?Sized)) {
    for (name, input) in identity.file_names().iter().zip(rows.inputs()) {
        if !input.ignored.names.is_empty() {
            progress.note(&format!("{name}: {}", input.ignored));
        }
    }
}

/// Rows in a chunk. It is at most a tenth of a second's worth, so that the rows keep an even rate, and at most a part of the
/// window, so that the window stays full.
fn chunk_rows(FeedLimits { window, rate, .. }: FeedLimits) -> usize {
    let window = window.unwrap_or(MAX_WINDOW);
    let by_rate = rate.map_or(MAX_ROWS as u64, |rate| 100_000 / rate.interval_us.max(1));
    let rows = by_rate.min(window / 4).clamp(1, MAX_ROWS as u64);
    usize::try_from(rows).unwrap_or(MAX_ROWS)
}

/// Stores the identity of the batch, or checks that it is the same as before, and what its files hold. Records the action first.
async fn register(
    backend: &mut Backend<'_>,
    actor: &Actor,
    identity: &Identity,
    checked: &CheckReport,
) -> Result<(), BackfillError> {
    let (first, namespace, failed) = (backend.common_keys(), backend.namespace(), backend.failed());
    let link = &mut backend.link;
    let (batch, fingerprint) = (identity.batch(), identity.fingerprint());
    let before = backfill::stored(link, &first, batch).await.map_err(&failed)?;
    let what = json!({"batch": batch, "files": identity.file_names(), "fingerprint": &fingerprint[..16],
        "resumed": before.is_some()});
    actor.record(link, namespace, "backfill", &what, 0).await.map_err(&failed)?;
    let wanted = StoredIdentity { fingerprint: fingerprint.to_owned(), json: identity.to_json() };
    // A result file of another batch is not overwritten.
    let has_own_results =
        before.is_none() && identity.first_files().iter().any(|file| output::results(file, None).exists());
    let now_ms = now_ms(link).await.map_err(&failed)?;
    backfill::list_as_begun(link, &first, batch, now_ms).await.map_err(&failed)?;
    let stored = backfill::register(link, &first, batch, &wanted, has_own_results).await.map_err(&failed)?;
    if stored.fingerprint != fingerprint {
        let begun_with = describe_stored(&stored.json);
        return Err(BackfillError::OtherBackfill { batch: batch.to_owned(), begun_with });
    }
    for number in 1..=identity.corrections() {
        let Some((fingerprint, json)) = identity.correction(number) else { break };
        let wanted = StoredIdentity { fingerprint: fingerprint.to_owned(), json };
        let stored = backfill::add_correction(link, &first, batch, number, &wanted).await.map_err(&failed)?;
        if stored != fingerprint {
            return Err(BackfillError::CorrectedMeanwhile(batch.to_owned()));
        }
    }
    let counts = serde_json::to_string(&StoredCounts { counts: checked.counts, reasons: checked.reasons.clone() })?;
    backfill::store_counts(link, &first, batch, &counts).await.map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_fits_the_rate_and_the_window() {
        let rows = |window, interval_us: Option<u64>| {
            chunk_rows(FeedLimits {
                window: Some(window),
                rate: interval_us.map(|interval_us| Rate { interval_us }),
                max_rejected: None,
                again: false,
            })
        };
        assert_eq!(rows(10_000, None), MAX_ROWS);
        assert_eq!(rows(40, None), 10);
        assert_eq!(rows(1, None), 1);
        assert_eq!(rows(10_000, Some(10_000)), 10);
        assert_eq!(rows(10_000, Some(1_000_000)), 1);
    }
}
