//! Enqueues NDJSON of any length: a result for each line, in the order of the lines.

use super::{
    add::{Enqueued, EnqueuedMany, add_many},
    check::{CheckedJob, EnqueueRequest, InvalidJob, JobChecker},
    lines::{Line, Lines},
};
use crate::{
    contract::{Lane, MAX_JOB_BYTES},
    operations::{Backend, Error},
    queue::{MAX_PIPELINE_BYTES, MAX_PIPELINE_JOBS},
};
use std::io;
use tokio::io::AsyncBufRead;

/// If this many lines are faulty and none before or between them is a job, the input is taken for something else.
const MAX_FAULTY_AT_FIRST: u64 = 10;

/// Enqueues the lines of `input`. Each line is a job, which may name its `lane`. A faulty line spoils only itself, but an input
/// that begins with ten faulty lines is read no further.
#[derive(Debug)]
pub struct NdjsonEnqueue<R> {
    lines: Lines<R>,
    checker: JobChecker,
    lane: Lane,
    enqueued: u64,
    /// Faulty lines before the first job. `None`: there was a job.
    faulty_at_first: Option<u64>,
}

/// The result of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineResult {
    /// Counted from 1, blank lines included.
    pub line: u64,
    /// The job in its lane, or why it is not enqueued.
    pub result: Result<Enqueued, InvalidJob>,
}

/// Why the work ended before the input did.
#[derive(Debug, thiserror::Error)]
pub enum NdjsonError {
    /// The input cannot be read. What was read before is enqueued, up to the last results.
    #[error("the input cannot be read")]
    Input(#[source] io::Error),
    /// The input is no NDJSON of jobs: its first lines are all faulty. Nothing was enqueued.
    #[error("nothing was enqueued: the first {0} lines are no jobs")]
    NoJobs(u64),
    /// Redis did not confirm some jobs.
    #[error("{enqueued} jobs were enqueued, before line {first_line}")]
    Queue {
        /// Jobs enqueued before these lines.
        enqueued: u64,
        /// The first line whose job may be enqueued or not.
        first_line: u64,
        /// The last of them.
        last_line: u64,
        /// Whether all of them have an id, so that they can be enqueued again.
        is_repeatable: bool,
        /// Redis's error.
        #[source]
        error: Error,
    },
}

impl NdjsonError {
    /// What to do about it, where there is something.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Input(_) => None,
            Self::NoJobs(_) => {
                Some("the file holds one JSON object a line, such as {\"type\":\"CheckUser\",…}".to_owned())
            }
            Self::Queue { is_repeatable: true, .. } => {
                Some("run it again: jobs with an id that are there already are dropped".to_owned())
            }
            Self::Queue { first_line, last_line, .. } => Some(format!(
                "it is not known which jobs of lines {first_line} to {last_line} are there; give each an `id`, and \
                 running it again does no harm"
            )),
        }
    }
}

/// A line that was read and checked.
type CheckedLine = (u64, Result<CheckedJob, InvalidJob>);

impl<R: AsyncBufRead + Unpin> NdjsonEnqueue<R> {
    /// `lane` is the lane of jobs that name none.
    pub const fn new(input: R, checker: JobChecker, lane: Lane) -> Self {
        Self { lines: Lines::new(input), checker, lane, enqueued: 0, faulty_at_first: Some(0) }
    }

    /// Reads the next lines and enqueues their jobs in one go; `None` at the end of the input. It holds at most 256 lines,
    /// and about 1 MiB of jobs: nothing more is read until it is called again.
    ///
    /// # Errors
    /// [`NdjsonError`]. After it, the rest of the input is not enqueued.
    pub async fn next(&mut self, backend: &mut Backend<'_>) -> Result<Option<Vec<LineResult>>, NdjsonError> {
        if let Some(faulty) = self.faulty_at_first.filter(|faulty| *faulty >= MAX_FAULTY_AT_FIRST) {
            return Err(NdjsonError::NoJobs(faulty));
        }
        let read = self.read().await?;
        if read.is_empty() {
            return Ok(None);
        }
        let jobs = || read.iter().filter_map(|(line, checked)| Some((*line, checked.as_ref().ok()?)));
        let EnqueuedMany { jobs: added, error } = add_many(backend, jobs().map(|(_, job)| job)).await;
        if let Some(error) = error {
            return Err(NdjsonError::Queue {
                enqueued: self.enqueued,
                first_line: jobs().map(|(line, _)| line).min().unwrap_or(0),
                last_line: jobs().map(|(line, _)| line).max().unwrap_or(0),
                is_repeatable: jobs().all(|(_, job)| job.id().is_some()),
                error,
            });
        }
        self.enqueued += added.len() as u64;
        let mut added = added.into_iter().flatten();
        let results = read.into_iter().filter_map(|(line, checked)| {
            let result = match checked {
                Ok(_) => Ok(added.next()?),
                Err(invalid) => Err(invalid),
            };
            Some(LineResult { line, result })
        });
        Ok(Some(results.collect()))
    }

    /// The next lines, as many as are enqueued in one go.
    async fn read(&mut self) -> Result<Vec<CheckedLine>, NdjsonError> {
        let (mut read, mut bytes) = (Vec::new(), 0);
        while read.len() < MAX_PIPELINE_JOBS && bytes < MAX_PIPELINE_BYTES {
            let Some(line) = self.lines.next().await.map_err(NdjsonError::Input)? else { break };
            let checked = self.check(&line);
            self.faulty_at_first = self.faulty_at_first.filter(|_| checked.is_err()).map(|faulty| faulty + 1);
            bytes += checked.as_ref().map_or(0, |job| job.json().len());
            read.push((line.number, checked));
            if self.faulty_at_first.is_some_and(|faulty| faulty >= MAX_FAULTY_AT_FIRST) {
                break;
            }
        }
        Ok(read)
    }

    fn check(&self, line: &Line) -> Result<CheckedJob, InvalidJob> {
        match line.text.as_deref().map(std::str::from_utf8) {
            Some(Ok(json)) => self.checker.check(EnqueueRequest { json, lane: self.lane, id: None }),
            Some(Err(_)) => Err(InvalidJob::whole("must be UTF-8")),
            None => Err(InvalidJob::whole(format!("must be at most {MAX_JOB_BYTES} bytes"))),
        }
    }
}
