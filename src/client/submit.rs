//! [`Client`]: submits jobs and waits for their completions.

use super::{error::ClientError, follow::CompletionStream, group::GroupStream, job::JobRequest};
use crate::{
    completions::{CompletionHub, FeedStart, Filter, Membership, Options, Start},
    config::Config,
    operations::{
        Error, SharedBackend,
        enqueue::{self, CheckedJob, EnqueueRequest, Enqueued, InvalidJob, JobChecker, Submission},
    },
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Submits jobs and reads completions. Clones share its connections. One client serves any number of requests at once.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backends: SharedBackend,
    checker: JobChecker,
    hub: CompletionHub,
}

/// The result of one job of [`Client::submit_many`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmittedJob {
    /// The job is in its lane.
    Enqueued(Enqueued),
    /// A worker would reject the job. It was not enqueued.
    Invalid(InvalidJob),
    /// Redis did not confirm the job: it may be enqueued or not. It is safe to submit it again under the same id.
    Unconfirmed {
        /// Id of the job.
        id: String,
    },
}

/// The result of [`Client::submit_many`].
#[derive(Debug)]
pub struct SubmittedMany {
    /// The result of each job, in the order of the jobs.
    pub jobs: Vec<SubmittedJob>,
    /// Why some jobs are not confirmed.
    pub error: Option<Error>,
}

impl Client {
    /// Connects. The configuration should be the workers' own: `redis`, `queue.dedupe_window` and
    /// `limits.allow_missing_caller_id` matter. Call it once in a process, in a tokio runtime.
    ///
    /// # Errors
    /// Redis does not answer, or `redis.url` is not valid.
    pub async fn connect(config: &Config) -> Result<Self, ClientError> {
        let redis = &config.redis;
        let backends = SharedBackend::new(redis)?;
        backends.ping().await?;
        let hub = CompletionHub::start(redis).map_err(|error| Error::queue(redis, error))?;
        // A request does not have to wait for the hub: it looks for its job when the hub begins to read.
        Ok(Self { shared: Arc::new(Shared { backends, checker: JobChecker::new(config), hub }) })
    }

    /// The hub that this client reads completions with.
    pub fn hub(&self) -> &CompletionHub {
        &self.shared.hub
    }

    fn check(&self, job: &JobRequest) -> Result<CheckedJob, InvalidJob> {
        // With an id the job can be sent again after a lost connection, because workers drop the second one.
        let made = (!job.has_id()).then(|| format!("rs-{}", Uuid::new_v4()));
        let request = EnqueueRequest { json: &job.to_json(), lane: job.goes_to(), id: made.as_deref() };
        self.shared.checker.check(request)
    }

    /// Enqueues a job. Retries for up to 13 s while Redis is away.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: nothing is enqueued. [`ClientError::Queue`]: the job may be enqueued or not. It is safe to
    /// submit it again under the same id.
    pub async fn submit(&self, job: &JobRequest) -> Result<Enqueued, ClientError> {
        let job = self.check(job)?;
        Ok(enqueue::add(&mut self.shared.backends.backend(), &job).await?)
    }

    /// Enqueues many jobs in pipelines. An invalid job spoils only itself.
    pub async fn submit_many<'j>(&self, jobs: impl IntoIterator<Item = &'j JobRequest>) -> SubmittedMany {
        let checked: Vec<Result<CheckedJob, InvalidJob>> = jobs.into_iter().map(|job| self.check(job)).collect();
        let mut backend = self.shared.backends.backend();
        let valid = checked.iter().filter_map(|job| job.as_ref().ok());
        let added = enqueue::add_many(&mut backend, valid).await;
        let mut entries = added.jobs.into_iter();
        let jobs = checked.into_iter().map(|job| match job {
            Err(invalid) => SubmittedJob::Invalid(invalid),
            Ok(job) => match entries.next().flatten() {
                Some(enqueued) => SubmittedJob::Enqueued(enqueued),
                None => SubmittedJob::Unconfirmed { id: job.id().unwrap_or_default().to_owned() },
            },
        });
        SubmittedMany { jobs: jobs.collect(), error: added.error }
    }

    /// Enqueues a job and waits for its completion, at most for `longest`. All requests of a process share one reader.
    ///
    /// # Errors
    /// As [`submit`](Self::submit). Also if 10,000 requests wait: then nothing is enqueued.
    pub async fn submit_and_wait(&self, job: &JobRequest, longest: Duration) -> Result<Submission, ClientError> {
        let job = self.check(job)?;
        Ok(enqueue::submit_and_wait(&mut self.shared.backends.backend(), &self.shared.hub, &job, longest).await?)
    }

    /// Follows the completions that match `filter`. Every stream gets all of them.
    ///
    /// # Errors
    /// Redis cannot be reached, or the cursor is for another queue.
    pub async fn completions(&self, start: FeedStart, filter: Filter) -> Result<CompletionStream, ClientError> {
        CompletionStream::start(&self.shared.hub, self.shared.backends.redis(), start, filter).await
    }

    /// Reads completions as a member of a group: each completion goes to one member, and comes again until a member has
    /// acknowledged it. `start` matters only to the member that creates the group. Completions that do not match `filter`
    /// are acknowledged without delivery. Each stream has a connection of its own.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn group(
        &self,
        membership: Membership,
        start: Start,
        filter: Filter,
    ) -> Result<GroupStream, ClientError> {
        let options = Options { start, membership: Some(membership), filter, ..Options::default() };
        GroupStream::start(self.shared.backends.redis(), options).await
    }
}
