//! Adds checked jobs to their lanes, and waits for completions.

use super::check::CheckedJob;
use crate::{
    completions::Waiter,
    contract::{EntryId, Lane, Origin, Status, millis},
    operations::{Backend, Error},
    queue::{self, Keys, LaneJob, index::locate},
};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::time::Duration;

/// A job that is in its lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// The job's own id, or the one that its place in the lane gives it.
    pub id: String,
    /// The lane that the job is in.
    pub lane: Lane,
    /// The partition of the lane.
    pub partition: u16,
    /// The job's entry in the lane.
    #[serde(serialize_with = "as_text")]
    pub entry_id: EntryId,
}

impl Enqueued {
    /// Where the job entered.
    pub(super) const fn origin(&self) -> Origin {
        Origin { lane: self.lane, partition: self.partition, entry: self.entry_id }
    }
}

fn as_text<S: Serializer>(entry: &EntryId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(entry)
}

/// The result of [`add_many`].
#[derive(Debug)]
pub struct EnqueuedMany {
    /// The result of each job, in the order of the jobs. `None`: Redis did not confirm the job; it may be enqueued or not.
    pub jobs: Vec<Option<Enqueued>>,
    /// Why some jobs are not confirmed.
    pub error: Option<Error>,
}

/// The result of [`add_and_wait`].
#[derive(Debug, Clone, PartialEq)]
pub struct Waited {
    /// The job in its lane.
    pub enqueued: Enqueued,
    /// The completion's event, or `None` if it did not come in time.
    pub completion: Option<Value>,
    /// When an earlier job with this id was enqueued, in milliseconds since 1970. This job is then a duplicate, and the
    /// completion is the earlier job's.
    pub first_ms: Option<u64>,
    /// The end of the completion stream before the job was enqueued: to look for the completion later, read after this entry.
    pub after: EntryId,
}

/// Enqueues a job.
///
/// # Errors
/// [`Error::Redis`]: the job may be enqueued or not. With an id, it is safe to enqueue it again.
pub async fn add(backend: &mut Backend<'_>, job: &CheckedJob) -> Result<Enqueued, Error> {
    add_one(backend, job.id(), &job.lane_job).await
}

/// Enqueues text as it is, like a producer that checks nothing. A worker rejects what is no valid job. `id` is the id of the
/// job, where it has one.
///
/// # Errors
/// [`Error::Redis`], as [`add`].
pub async fn add_unchecked(
    backend: &mut Backend<'_>,
    json: String,
    lane: Lane,
    partition: u16,
    id: Option<&str>,
) -> Result<Enqueued, Error> {
    add_one(backend, id, &LaneJob { lane, partition, json, has_id: id.is_some() }).await
}

/// Enqueues a job, and looks meanwhile, with `looking`, whether it is a duplicate. The answer to that is a hint: `false` also if Redis
/// does not answer, or if the earlier job was not admitted yet.
///
/// # Errors
/// [`Error::Redis`], as [`add`].
pub async fn add_and_look(
    backend: &mut Backend<'_>,
    looking: &mut Backend<'_>,
    job: &CheckedJob,
) -> Result<(Enqueued, bool), Error> {
    // Both at once: the hint costs no time.
    let (holder, enqueued) = tokio::join!(holder(looking, job), add(backend, job));
    let enqueued = enqueued?;
    let own = enqueued.origin();
    // A worker may have admitted this very job before the look.
    let is_duplicate =
        holder.is_some_and(|holder| holder != own && is_ours(holder.entry.ms, own.entry.ms, job.dedupe_window));
    Ok((enqueued, is_duplicate))
}

/// The job that has reserved this job's id, as far as is known.
async fn holder(backend: &mut Backend<'_>, job: &CheckedJob) -> Option<Origin> {
    let keys = Keys::new(backend.namespace(), job.partition());
    Some(locate(&mut backend.link, &keys, job.id()?).await.ok()??.origin)
}

/// Whether a job enqueued at `ms` is this one, or one that this one duplicates.
pub(super) fn is_ours(ms: u64, own_ms: u64, dedupe_window: Duration) -> bool {
    own_ms.abs_diff(ms) <= millis(dedupe_window)
}

async fn add_one(backend: &mut Backend<'_>, id: Option<&str>, job: &LaneJob) -> Result<Enqueued, Error> {
    let (namespace, failed) = (backend.namespace(), backend.failed());
    let entry = queue::enqueue_one(&mut backend.link, namespace, job).await.map_err(failed)?;
    Ok(enqueued(id, job, entry))
}

/// Enqueues jobs, in bounded pipelines. After an error that waiting does not cure it ends; see [`EnqueuedMany`].
pub async fn add_many<'j>(backend: &mut Backend<'_>, jobs: impl IntoIterator<Item = &'j CheckedJob>) -> EnqueuedMany {
    let (namespace, failed) = (backend.namespace(), backend.failed());
    let (ids, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.id(), &job.lane_job)).unzip();
    let replies = queue::enqueue(&mut backend.link, namespace, &jobs).await;
    let jobs = ids.into_iter().zip(jobs).zip(replies.entries);
    EnqueuedMany {
        jobs: jobs.map(|((id, job), entry)| Some(enqueued(id, job, entry?))).collect(),
        error: replies.error.map(failed),
    }
}

fn enqueued(id: Option<&str>, job: &LaneJob, entry: EntryId) -> Enqueued {
    let LaneJob { lane, partition, .. } = *job;
    let id = id.map_or_else(|| Origin { lane, partition, entry }.to_string(), str::to_owned);
    Enqueued { id, lane, partition, entry_id: entry }
}

/// Enqueues a job and waits for its completion, at most for `longest`. It listens before it enqueues, so that the
/// completion cannot be missed. The job needs an `id` and `reply: true`.
///
/// # Errors
/// [`Error::CannotWait`]: the job has no id or asks for no reply; nothing is enqueued. [`Error::Redis`], as [`add`]; or the
/// job is enqueued, and its completion cannot be read.
pub async fn add_and_wait(backend: &mut Backend<'_>, job: &CheckedJob, longest: Duration) -> Result<Waited, Error> {
    if !job.has_reply || job.id.is_none() {
        return Err(Error::CannotWait);
    }
    let queue_failed = backend.queue_failed();
    let waiter = Waiter::new(backend.redis(), job.partition()).await.map_err(&queue_failed)?;
    let after = waiter.after();
    let enqueued = add(backend, job).await?;
    let completion = waiter.wait_for(&enqueued.id, longest).await.map_err(queue_failed)?;
    let first_ms = match &completion {
        Some(event) if event["status"] == Status::Rejected.as_str() => None,
        _ => first_ms(backend, &enqueued).await,
    };
    Ok(Waited { enqueued, completion, first_ms, after })
}

/// When an earlier job with this job's id was enqueued. `None` also if Redis does not tell: it only explains the result.
async fn first_ms(backend: &mut Backend<'_>, enqueued: &Enqueued) -> Option<u64> {
    let keys = Keys::new(backend.namespace(), enqueued.partition);
    let located = locate(&mut backend.link, &keys, &enqueued.id).await.ok()??;
    let own = enqueued.origin();
    (located.origin != own).then_some(located.origin.entry.ms)
}
