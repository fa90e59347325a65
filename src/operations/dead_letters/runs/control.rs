//! Looking at runs, and stopping one.

use super::{
    error::RunError,
    name::RunName,
    record::{Record, RunReport, RunState, listed},
    request::RunKind,
};
use crate::{
    operations::{Actor, Backend, MerchantScope},
    queue::{clock, runs},
};
use serde_json::json;

/// How far a run is.
///
/// `merchants` are those to whom the user is restricted: other runs are unknown to them.
///
/// # Errors
/// [`RunError::UnknownRun`], [`RunError::Operation`].
pub async fn get(backend: &mut Backend<'_>, name: &RunName, merchants: &MerchantScope) -> Result<RunReport, RunError> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let fields = runs::read(&mut backend.link, &keys, name.as_str()).await.map_err(&failed)?;
    let now_ms = clock::now_ms(&mut backend.link).await.map_err(failed)?;
    let record = Record::new(name.as_str(), &fields, now_ms);
    if fields.is_empty() || !record.is_visible_to(merchants) {
        return Err(RunError::UnknownRun);
    }
    Ok(record.report())
}

/// The runs of a week that began last, the newest first, at most `limit`. `kind`: only replays or only discards.
///
/// # Errors
/// [`RunError::Operation`].
pub async fn list(
    backend: &mut Backend<'_>,
    kind: Option<RunKind>,
    merchants: &MerchantScope,
    limit: usize,
) -> Result<Vec<RunReport>, RunError> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    // Runs of others and of the other kind are read, too.
    let most = if kind.is_none() && merchants.is_all() { limit } else { usize::MAX };
    let found = runs::newest(&mut backend.link, &keys, most).await.map_err(&failed)?;
    let now_ms = clock::now_ms(&mut backend.link).await.map_err(failed)?;
    let records = found.iter().map(|(name, fields)| Record::new(name, fields, now_ms));
    let reports = records
        .filter(|record| record.is_visible_to(merchants) && kind.is_none_or(|kind| kind == record.kind()))
        .map(|record| record.report())
        .filter(|report| listed(&report.run).is_some());
    Ok(reports.take(limit).collect())
}

/// Asks a run to stop. Its process does so within about a second; a run that is interrupted is stopped at once. A run that has ended
/// stays as it is. The actor is recorded in the audit stream.
///
/// # Errors
/// [`RunError::UnknownRun`], [`RunError::Operation`].
pub async fn stop(
    backend: &mut Backend<'_>,
    actor: &Actor,
    name: &RunName,
    merchants: &MerchantScope,
) -> Result<RunReport, RunError> {
    let report = get(backend, name, merchants).await?;
    if matches!(report.state, RunState::Done | RunState::Stopped) {
        return Ok(report);
    }
    let action = format!("{} stop", report.kind.action());
    backend.record(actor, &action, &json!({"run": name}), report.of).await?;
    let (keys, failed) = (backend.common_keys(), backend.failed());
    runs::ask_to_stop(&mut backend.link, &keys, name.as_str(), actor.name()).await.map_err(failed)?;
    get(backend, name, merchants).await
}
