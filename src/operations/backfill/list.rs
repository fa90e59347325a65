//! Lists backfills.

use super::stored::StoredCounts;
use crate::{
    backfill::stored_files,
    contract::format_ms,
    operations::{Backend, Error},
    queue::backfill,
};
use redis::RedisResult;
use serde::Serialize;
use std::path::PathBuf;

/// A backfill in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackfillSummary {
    /// The batch.
    pub batch: String,
    /// When a run of it began last, RFC 3339, on Redis's clock.
    pub begun_at: String,
    /// Its files, without those of corrections.
    pub files: Vec<PathBuf>,
    /// Number of corrections.
    pub corrections: usize,
    /// Number of valid rows; `None` if an older version began the backfill.
    pub valid: Option<u64>,
    /// Number of rejected rows.
    pub rejected: Option<u64>,
    /// Rows that have ended, as far as a run or a report has collected them.
    pub ended: u64,
    /// Of these, the rows without success.
    pub unsuccessful: u64,
    /// Whether every valid row has ended.
    pub complete: bool,
}

/// Lists the backfills of the last 30 days, the latest first.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>) -> Result<Vec<BackfillSummary>, Error> {
    let failed = backend.failed();
    summaries(backend, usize::MAX).await.map_err(failed)
}

/// The backfill of this batch, if one of the last 30 days has it.
///
/// # Errors
/// [`Error::Redis`].
pub async fn one(backend: &mut Backend<'_>, batch: &str) -> Result<Option<BackfillSummary>, Error> {
    let (first, failed) = (backend.common_keys(), backend.failed());
    let done: RedisResult<_> = async {
        let begun = backfill::begun(&mut backend.link, &first).await?;
        let Some((batch, begun_ms)) = begun.into_iter().find(|(begun, _)| begun == batch) else { return Ok(None) };
        summary(backend, batch, begun_ms).await
    }
    .await;
    done.map_err(failed)
}

/// The backfills with rows that have not ended, the latest first: those among the latest `most`.
pub(in crate::operations) async fn running(
    backend: &mut Backend<'_>,
    most: usize,
) -> RedisResult<Vec<BackfillSummary>> {
    let mut summaries = summaries(backend, most).await?;
    summaries.retain(|summary| !summary.complete);
    Ok(summaries)
}

async fn summaries(backend: &mut Backend<'_>, most: usize) -> RedisResult<Vec<BackfillSummary>> {
    let first = backend.common_keys();
    let mut listed = backfill::begun(&mut backend.link, &first).await?;
    listed.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    listed.truncate(most);
    let mut summaries = Vec::with_capacity(listed.len());
    for (batch, begun_ms) in listed {
        summaries.extend(summary(backend, batch, begun_ms).await?);
    }
    Ok(summaries)
}

/// `None`: Redis no longer holds it.
async fn summary(backend: &mut Backend<'_>, batch: String, begun_ms: u64) -> RedisResult<Option<BackfillSummary>> {
    let first = backend.common_keys();
    let link = &mut backend.link;
    let Some(stored) = backfill::stored(link, &first, &batch).await? else { return Ok(None) };
    let (ended, _) = backfill::progress(link, &first, &batch).await?;
    let counts = stored.counts.and_then(|counts| serde_json::from_str::<StoredCounts>(&counts).ok());
    let counts = counts.map(|held| held.counts);
    Ok(Some(BackfillSummary {
        batch,
        begun_at: format_ms(begun_ms),
        files: stored_files(&stored.identity.json),
        corrections: stored.corrections.len(),
        valid: counts.map(|counts| counts.valid),
        rejected: counts.map(|counts| counts.rejected),
        ended: ended.rows,
        unsuccessful: ended.unsuccessful,
        complete: counts.is_some_and(|counts| counts.valid == ended.rows),
    }))
}
