//! Waits for completions on the connection that all requests of a process share.

use super::{
    add::{Enqueued, add, is_ours},
    check::CheckedJob,
};
use crate::{
    completions::{CompletionHub, Expected, HubCompletion, page},
    contract::{EntryId, Status, run_at_ms},
    operations::{Backend, Error},
    queue::index::{Located, locate},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The result of [`submit_and_wait`].
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job in its lane.
    pub enqueued: Enqueued,
    /// The completion. `None`: it did not come in time, or the job is a duplicate of one whose completion is not kept.
    pub completion: Option<Arc<HubCompletion>>,
    /// When an earlier job with this id was enqueued, in milliseconds since 1970. This job is then a duplicate, and the
    /// completion is the earlier job's.
    pub first_ms: Option<u64>,
}

/// The result of [`await_completion`].
#[derive(Debug, Clone)]
pub enum Awaited {
    /// The job has ended.
    Completion(Arc<HubCompletion>),
    /// The job has ended, but its completion is no longer kept.
    Trimmed,
    /// The job has not ended in time.
    Pending,
    /// No worker has seen a job with this id: it waits unread, its id is forgotten, or there is none.
    Unknown,
}

/// Enqueues a job and waits for its completion, at most for `longest`. It expects the completion before it enqueues, so
/// that it cannot be missed. The job needs an `id`, but no `reply`.
///
/// A duplicate of a job that has ended gets that job's completion at once.
///
/// # Errors
/// [`Error::NoId`]; [`Error::Completions`]: too many requests wait. Nothing is enqueued then. [`Error::Redis`], as
/// [`add`].
pub async fn submit_and_wait(
    backend: &mut Backend<'_>,
    hub: &CompletionHub,
    job: &CheckedJob,
    longest: Duration,
) -> Result<Submission, Error> {
    let id = job.id().ok_or(Error::NoId)?;
    let mut expectation = hub.expect(id)?;
    let enqueued = add(backend, job).await?;
    let deadline = Instant::now() + longest;
    let own = enqueued.origin();
    let mut first_ms = None;
    let mut looks = true;
    loop {
        if looks {
            looks = false;
            // The job is enqueued: a failed look must not hide that. The hub tells of the completion all the same.
            if let Ok(Some(located)) = find(backend, id, own.partition).await
                && is_ours(located.origin.entry.ms, own.entry.ms, job.dedupe_window)
            {
                first_ms = (located.origin != own).then_some(located.origin.entry.ms);
                if let Some(entry) = located.ended
                    && let Ok(completion) = kept(backend, id, own.partition, entry).await
                {
                    return Ok(Submission { enqueued, completion, first_ms });
                }
            }
        }
        match expectation.completion(deadline).await {
            Expected::Completion(completion) => {
                let enqueued_ms = enqueued_ms(&completion.event).unwrap_or(own.entry.ms);
                let is_own = enqueued_ms == own.entry.ms;
                // A rejected job reserves no id, so that this one is no duplicate of it.
                let is_known =
                    completion.status != Status::Rejected && is_ours(enqueued_ms, own.entry.ms, job.dedupe_window);
                if is_own || is_known {
                    let first_ms = (!is_own).then_some(enqueued_ms);
                    return Ok(Submission { enqueued, completion: Some(completion), first_ms });
                }
            }
            Expected::Gap => looks = true,
            Expected::TimedOut => return Ok(Submission { enqueued, completion: None, first_ms }),
        }
    }
}

/// Waits for the completion of a job that was enqueued before, at most for `longest`. If the job has ended, it returns at
/// once. `partition` is the job's.
///
/// # Errors
/// [`Error::Completions`]: too many requests wait. [`Error::Redis`].
pub async fn await_completion(
    backend: &mut Backend<'_>,
    hub: &CompletionHub,
    id: &str,
    partition: u16,
    longest: Duration,
) -> Result<Awaited, Error> {
    let deadline = Instant::now() + longest;
    // Expected before the look: the job cannot end unseen between the two.
    let mut expectation = hub.expect(id)?;
    let mut is_over = longest.is_zero();
    loop {
        let located = find(backend, id, partition).await?;
        if let Some(entry) = located.and_then(|located| located.ended) {
            return Ok(kept(backend, id, partition, entry).await?.map_or(Awaited::Trimmed, Awaited::Completion));
        }
        if is_over {
            return Ok(if located.is_some() { Awaited::Pending } else { Awaited::Unknown });
        }
        match expectation.completion(deadline).await {
            Expected::Completion(completion) => return Ok(Awaited::Completion(completion)),
            Expected::Gap => {}
            Expected::TimedOut => is_over = true,
        }
    }
}

fn enqueued_ms(event: &Value) -> Option<u64> {
    run_at_ms(event["enqueued_at"].as_str()?).ok()
}

async fn find(backend: &mut Backend<'_>, id: &str, partition: u16) -> Result<Option<Located>, Error> {
    let (keys, failed) = (backend.keys_of(partition), backend.failed());
    locate(&mut backend.link, &keys, id).await.map_err(failed)
}

/// The completion at that entry. `None` if it is no longer kept.
async fn kept(
    backend: &mut Backend<'_>,
    id: &str,
    partition: u16,
    entry: EntryId,
) -> Result<Option<Arc<HubCompletion>>, Error> {
    let (keys, failed) = (backend.keys_of(partition), backend.failed());
    let Some(before) = entry.before() else { return Ok(None) };
    let page = page(&mut backend.link, &keys, before, 1).await.map_err(failed)?;
    let found = page.completed.into_iter().find(|found| found.entry_id == entry && found.id == id);
    Ok(found.map(|found| Arc::new(HubCompletion::new(found))))
}
