//! `POST /v1/jobs`: one job, an array of jobs, or NDJSON of any length.

use super::{
    bulk, media, prefer,
    query::{BODY_TIMEOUT, Parameters},
    submission::{Submission, job_path},
};
use crate::{
    access::Principal,
    completions::HubError,
    gateway::{
        access::{Access, Enqueue},
        layers::refuse_if_draining,
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::{
        Backend, Error,
        enqueue::{CheckedJob, MAX_REQUEST_BYTES, Submission as Submitted, add_and_look, submit_and_wait},
    },
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Maximum size of an array of jobs, in bytes.
const MAX_ARRAY_BYTES: usize = 1 << 20;
/// How long a request goes on waiting for its completion when the gateway stops: less than the gateway waits for its requests.
const WAIT_WHILE_STOPPING: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnqueueQuery {
    /// The lane of jobs that name none; default `interactive`.
    lane: Option<String>,
}

/// Enqueues one job (an object), or many (an array, or `application/x-ndjson`). Many are answered with one result a line, in the
/// order of the jobs.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", security(("token" = [])), request_body = Object,
    params(("lane" = Option<String>, Query, description = "Lane of jobs that name none: interactive or bulk"),
        ("Prefer" = Option<String>, Header, description = "`wait=10`: answer with the completion if it comes in this time"),
        ("Idempotency-Key" = Option<String>, Header, description = "The id of a job that has none")),
    responses((status = 202, description = "Enqueued", body = Object), (status = 200, description = "The completion, or a result a line"),
        (status = 400, description = "The body is not valid JSON"), (status = 413, description = "Too large"),
        (status = 415, description = "The content type is not supported"), (status = 422, description = "The job is not valid"),
        (status = 503, description = "The lane is full, or Redis cannot be used")))]
pub(crate) async fn enqueue(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Enqueue>,
    Parameters(query): Parameters<EnqueueQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    refuse_if_draining(&state)?;
    if media::of_body(&headers) == media::NDJSON {
        return bulk::stream(state, principal, &headers, query.lane, body);
    }
    if !is_json(&headers) {
        return Err(Problem::new(ProblemKind::UnsupportedType)
            .detail("send application/json for one job or an array, application/x-ndjson for a stream"));
    }
    let bytes = read(body).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::new(ProblemKind::InvalidJson))?;
    let submission = Submission::new(&state, &principal, &headers, query.lane.as_deref())?;
    if text.trim_start().starts_with('[') {
        return bulk::array(&state, &principal, &submission, text).await;
    }
    if text.len() > MAX_REQUEST_BYTES {
        return Err(Problem::new(ProblemKind::TooLarge).detail("a job has at most 64 KiB"));
    }
    one(&state, &principal, &submission, &headers, text).await
}

async fn one(
    state: &GatewayState,
    principal: &Principal,
    submission: &Submission<'_>,
    headers: &HeaderMap,
    text: &str,
) -> Result<Response, Problem> {
    principal.token.rate().job()?;
    let job = submission.check_one(text)?;
    state.load.check(&state.shared, job.lane()).await?;
    let mut backend = state.shared.backend();
    let submitted = match prefer::wait(headers) {
        Some(wait) => submitted_in_time(state, &mut backend, &job, wait).await?.map(|submitted| (submitted, wait)),
        None => None,
    };
    let (enqueued, duplicate) = if let Some((submitted, wait)) = submitted {
        if let Some(completion) = submitted.completion {
            let headers = [
                (header::CONTENT_TYPE, "application/json".to_owned()),
                (header::CONTENT_LOCATION, job_path(&submitted.enqueued.id)),
                (prefer::PREFERENCE_APPLIED, format!("wait={}", wait.as_secs())),
            ];
            return Ok((headers, completion.json().to_owned()).into_response());
        }
        (submitted.enqueued, submitted.first_ms.is_some())
    } else {
        add_and_look(&mut backend, &mut state.shared.backend(), &job).await?
    };
    let location = job_path(&enqueued.id);
    let accepted = submission.accepted(&job, enqueued, duplicate);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}

/// Enqueues the job and waits for its completion. `None`: too many requests wait, or the gateway stops. The job may then be in its
/// lane or not; it has an id, so that enqueueing it again does no harm.
async fn submitted_in_time(
    state: &GatewayState,
    backend: &mut Backend<'_>,
    job: &CheckedJob,
    wait: Duration,
) -> Result<Option<Submitted>, Problem> {
    let stopping = async {
        state.draining.cancelled().await;
        sleep(WAIT_WHILE_STOPPING).await;
    };
    tokio::select! {
        submitted = submit_and_wait(backend, &state.hub, job, wait) => match submitted {
            Err(Error::Completions(HubError::TooManyExpectations)) => Ok(None),
            submitted => Ok(Some(submitted?)),
        },
        () = stopping => Ok(None),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = media::of_body(headers);
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Reads a whole body, in bounded time and size.
async fn read(body: Body) -> Result<Bytes, Problem> {
    let limited = Limited::new(body, MAX_ARRAY_BYTES);
    match timeout(BODY_TIMEOUT, limited.collect()).await {
        Err(_) => Err(Problem::new(ProblemKind::TimedOut).detail("the body took more than 10 s")),
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(ProblemKind::TooLarge).detail("a body has at most 1 MiB; send NDJSON for more jobs"))
        }
        Ok(Err(_)) => Err(Problem::new(ProblemKind::BadRequest).detail("the body broke off")),
    }
}
