//! Many jobs in one request. Each gets a result line; a faulty one spoils only itself.

use super::{
    media::NDJSON,
    submission::{Accepted, Submission},
};
use crate::{
    access::Principal,
    contract::MAX_JOB_BYTES,
    gateway::{
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::enqueue::{CheckedJob, Line, Lines, add_many},
};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    sync::mpsc,
    time::timeout,
};
use tokio_util::io::{ReaderStream, StreamReader};

/// Maximum number of jobs in an array.
const MAX_ARRAY_JOBS: usize = 1_000;
/// Number of lines that are read ahead.
const LINES_AHEAD: usize = 256;
/// Number of jobs that are enqueued in one pipeline.
const PIPELINE: usize = 100;
/// Number of bytes of results that the client has not read. Beyond it, no more lines are read.
const UNREAD_BYTES: usize = 64 * 1024;
/// A stream in which nothing is read or written for this time is ended.
const STALL: Duration = Duration::from_secs(30);

/// The result of one job.
#[derive(Serialize)]
struct ResultLine {
    index: u64,
    status: u16,
    #[serde(flatten)]
    accepted: Option<Accepted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Value>,
}

impl ResultLine {
    fn accepted(index: u64, accepted: Accepted) -> Self {
        Self { index, status: 202, accepted: Some(accepted), problem: None }
    }

    fn refused(index: u64, problem: &Problem) -> Self {
        Self { index, status: problem.status().as_u16(), accepted: None, problem: Some(problem.document(None)) }
    }
}

/// Enqueues an array of jobs.
pub(super) async fn array(
    state: &GatewayState,
    principal: &Principal,
    submission: &Submission<'_>,
    text: &str,
) -> Result<Response, Problem> {
    let jobs: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Problem::new(ProblemKind::InvalidJson))?;
    if jobs.len() > MAX_ARRAY_JOBS {
        return Err(Problem::new(ProblemKind::TooLarge).detail("an array has at most 1000 jobs; send NDJSON for more"));
    }
    let (mut results, mut lost) = (Vec::new(), None);
    for (chunk, jobs) in jobs.chunks(PIPELINE).enumerate() {
        principal.token.rate().wait_for_jobs(jobs.len()).await;
        let first = (chunk * PIPELINE) as u64;
        let checked = (first..).zip(jobs).map(|(index, job)| (index, submission.check_of_many(job.get(), index)));
        results.extend(lines_of(&enqueue_chunk(state, submission, checked.collect(), &mut lost).await));
    }
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))], results).into_response())
}

/// Enqueues a stream of jobs while it arrives. The socket is read no faster than Redis and the client take it.
pub(super) fn stream(
    state: Arc<GatewayState>,
    principal: Principal,
    headers: &HeaderMap,
    lane: Option<String>,
    body: Body,
) -> Result<Response, Problem> {
    // Faults of the request itself are answered before the stream begins.
    Submission::new(&state, &principal, headers, lane.as_deref())?;
    let open = principal.token.rate().stream()?;
    let headers = headers.clone();
    let (mut results, unread) = tokio::io::duplex(UNREAD_BYTES);
    let (to_enqueue, mut lines) = mpsc::channel(LINES_AHEAD);
    let reading = tokio::spawn(read_lines(body, to_enqueue));
    tokio::spawn(async move {
        let _open = open;
        let Ok(submission) = Submission::new(&state, &principal, &headers, lane.as_deref()) else { return };
        let (mut chunk, mut index, mut lost) = (Vec::new(), 0, None);
        while lines.recv_many(&mut chunk, PIPELINE).await > 0 {
            principal.token.rate().wait_for_jobs(chunk.len()).await;
            let mut checked = Vec::with_capacity(chunk.len());
            for line in chunk.drain(..) {
                checked.push((index, check_line(&submission, line, index)));
                index += 1;
            }
            let lines = lines_of(&enqueue_chunk(&state, &submission, checked, &mut lost).await);
            match timeout(STALL, results.write_all(&lines)).await {
                Ok(Ok(())) => {}
                // The client is gone, or does not read.
                _ => break,
            }
        }
        reading.abort();
    });
    let body = Body::from_stream(ReaderStream::new(unread));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))], body).into_response())
}

/// Reads lines until the body ends, breaks off, or stalls.
async fn read_lines(body: Body, to: mpsc::Sender<io::Result<Line>>) {
    let bytes = TryStreamExt::map_err(body.into_data_stream(), io::Error::other);
    let mut lines = Lines::new(BufReader::new(StreamReader::new(bytes)));
    loop {
        let line = match timeout(STALL, lines.next()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let is_last = line.is_err();
        if to.send(line).await.is_err() || is_last {
            return;
        }
    }
}

fn check_line(submission: &Submission<'_>, line: io::Result<Line>, index: u64) -> Result<CheckedJob, Problem> {
    let line = line.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Problem::new(ProblemKind::TimedOut).detail("no line came for 30 s"),
        _ => Problem::new(ProblemKind::BadRequest).detail("the body broke off"),
    })?;
    let Some(bytes) = line.text else {
        return Err(Problem::new(ProblemKind::TooLarge).detail(format!("a job has at most {MAX_JOB_BYTES} bytes")));
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::new(ProblemKind::InvalidJson))?;
    submission.check_of_many(text, index)
}

/// Enqueues what is valid. Each job gets a result, in the order of the jobs. Once Redis is `lost`, the jobs that remain are refused
/// without another attempt: each takes seconds.
async fn enqueue_chunk(
    state: &GatewayState,
    submission: &Submission<'_>,
    checked: Vec<(u64, Result<CheckedJob, Problem>)>,
    lost: &mut Option<Problem>,
) -> Vec<ResultLine> {
    let mut admitted = Vec::with_capacity(checked.len());
    for (index, checked) in checked {
        let checked = match checked {
            Ok(_) if state.draining.is_cancelled() => Err(Problem::new(ProblemKind::Draining).retry_after(1)),
            Ok(job) => {
                if let Some(lost) = &*lost {
                    Err(lost.clone())
                } else {
                    let fits = state.load.check(&state.shared, job.lane()).await;
                    *lost = fits.as_ref().err().filter(|problem| problem.is_of_redis()).cloned();
                    fits.map(|()| job)
                }
            }
            Err(problem) => Err(problem),
        };
        admitted.push((index, checked));
    }
    let jobs = admitted.iter().filter_map(|(_, checked)| checked.as_ref().ok());
    let added = add_many(&mut state.shared.backend(), jobs).await;
    // Each job has an id, so the client may send it again.
    *lost = added.error.map(Problem::from).or(lost.take());
    let unanswered = lost.clone().unwrap_or_else(|| Problem::new(ProblemKind::RedisUnavailable));
    let mut entries = added.jobs.into_iter();
    let results = admitted.into_iter().map(|(index, checked)| match checked {
        Err(problem) => ResultLine::refused(index, &problem),
        Ok(job) => match entries.next().flatten() {
            Some(enqueued) => ResultLine::accepted(index, submission.accepted(&job, enqueued, false)),
            None => ResultLine::refused(index, &unanswered),
        },
    });
    results.collect()
}

fn lines_of(results: &[ResultLine]) -> Vec<u8> {
    let mut lines = Vec::new();
    for result in results {
        // Text and numbers can always be JSON.
        let _ = serde_json::to_writer(&mut lines, result);
        lines.push(b'\n');
    }
    lines
}
