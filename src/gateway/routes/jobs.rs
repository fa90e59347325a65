//! `GET /v1/jobs`, `POST /v1/jobs/search`, `GET` and `DELETE /v1/jobs/{id}`

use super::query::{Body, Parameters, faulty, parse};
use crate::{
    access::Principal,
    contract::JobType,
    gateway::{
        access::{Access, Operate, Read},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::{
        NoProgress,
        jobs::{self, CancelDetail, Explanation, JobFilter, JobList, JobListRequest, JobPlace, Stage},
        masked_completion,
    },
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// Default and maximum number of jobs of one answer.
const LIMIT: (usize, usize) = (50, 1_000);
/// Maximum number of jobs that are read for one answer.
const LOOK_AT_MOST: u64 = 20_000;

/// What a search looks for. In a URL, no member may name a person: a URL ends in the logs of proxies.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobSearch {
    state: Option<String>,
    lane: Option<String>,
    #[serde(rename = "type")]
    job_type: Option<String>,
    caller_id: Option<String>,
    customer_reference: Option<String>,
    batch: Option<String>,
    since: Option<String>,
    id: Option<String>,
    email: Option<String>,
    phone_number: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl JobSearch {
    fn request(self, principal: &Principal) -> Result<JobListRequest, Problem> {
        let stages = names(self.state.as_deref()).map(|name| {
            Stage::from_name(name).ok_or_else(|| faulty("state", "must be waiting, running, delayed or ended"))
        });
        let types = names(self.job_type.as_deref())
            .map(|name| JobType::from_name(name).ok_or_else(|| faulty("type", "is no job type")));
        let lane = self.lane.map(|lane| parse("lane", &lane, "must be interactive or bulk")).transpose()?;
        let since =
            self.since.map(|since| since.parse().map_err(|wanted: String| faulty("since", &wanted))).transpose()?;
        let cursor = self.cursor.map(|cursor| parse("cursor", &cursor, "is no cursor of a search")).transpose()?;
        let filter = JobFilter {
            stage: stages.collect::<Result<_, _>>()?,
            status: Vec::new(),
            job_type: types.collect::<Result<_, _>>()?,
            lane,
            batch: self.batch,
            caller: self.caller_id,
            customer: self.customer_reference,
            email: self.email,
            phone_number: self.phone_number,
            people: Vec::new(),
            id: self.id,
            since,
            merchants: principal.merchants().clone(),
        };
        let limit = self.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
        Ok(JobListRequest { filter, limit, look_at_most: LOOK_AT_MOST, cursor })
    }
}

/// The names in `a,b`.
fn names(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

/// Searches jobs. It reads a bounded number of them: `complete` says whether it has seen all, `cursor` goes on. With `id` alone it
/// answers as `GET /v1/jobs/{id}`, for proxies that decode an id with a slash.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", security(("token" = [])),
    params(("state" = Option<String>, Query, description = "waiting, running, delayed, ended; several with commas"),
        ("lane" = Option<String>, Query), ("type" = Option<String>, Query), ("caller_id" = Option<String>, Query),
        ("customer_reference" = Option<String>, Query), ("batch" = Option<String>, Query), ("since" = Option<String>, Query),
        ("id" = Option<String>, Query), ("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "Jobs", body = Object), (status = 400, description = "A parameter is not valid")))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Parameters(search): Parameters<JobSearch>,
) -> Result<Response, Problem> {
    if search.email.is_some() || search.phone_number.is_some() {
        return Err(
            Problem::new(ProblemKind::BadRequest).detail("search for a person with POST /v1/jobs/search, not in a URL")
        );
    }
    let is_one = search.state.is_none()
        && search.lane.is_none()
        && search.job_type.is_none()
        && search.caller_id.is_none()
        && search.customer_reference.is_none()
        && search.batch.is_none()
        && search.since.is_none();
    match search.id {
        Some(id) if is_one => Ok(answer(&state, &principal, &id).await?.into_response()),
        _ => Ok(find(&state, &principal, search).await?.into_response()),
    }
}

/// Searches jobs, by a person too. Nothing of the body is logged.
#[utoipa::path(post, path = "/v1/jobs/search", tag = "jobs", security(("token" = [])), request_body = Object,
    responses((status = 200, description = "Jobs", body = Object), (status = 400, description = "A member is not valid")))]
pub(crate) async fn search(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Body(search): Body<JobSearch>,
) -> Result<Json<JobList>, Problem> {
    find(&state, &principal, search).await
}

async fn find(state: &GatewayState, principal: &Principal, search: JobSearch) -> Result<Json<JobList>, Problem> {
    let request = search.request(principal)?;
    Ok(Json(jobs::list(&mut state.shared.backend_for_scans(), &request, &NoProgress).await?))
}

/// Where a job is and why, or how it ended.
#[derive(Serialize)]
pub(crate) struct JobAnswer {
    #[serde(flatten)]
    explanation: Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<Value>,
}

/// Where a job is, what it waits for and until when; or its completion. A token with `read` and without `enqueue` sees the completion
/// with personal data masked.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", security(("token" = [])),
    params(("id" = String, Path, description = "The id of the job, percent-encoded")),
    responses((status = 200, description = "The job", body = Object), (status = 404, description = "No such job")))]
pub(crate) async fn one(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Path(id): Path<String>,
) -> Result<Json<JobAnswer>, Problem> {
    answer(&state, &principal, &id).await
}

async fn answer(state: &GatewayState, principal: &Principal, id: &str) -> Result<Json<JobAnswer>, Problem> {
    let mut backend = state.shared.backend_for_scans();
    let explanation = jobs::explain(&mut backend, &state.config, id, principal.merchants(), &NoProgress).await?;
    let explanation = if principal.sees_personal_data() { explanation } else { explanation.masked() };
    if !explanation.is_known() {
        return Err(Problem::new(ProblemKind::NotFound).detail("no job with this id is known"));
    }
    let completion = match &explanation.place {
        JobPlace::Ended(ended) if principal.sees_personal_data() => Some(ended.completion.clone()),
        JobPlace::Ended(ended) => Some(masked_completion(&ended.completion)),
        _ => None,
    };
    Ok(Json(JobAnswer { explanation, completion }))
}

/// Cancels a job. 200: it has ended by that; 202: it ends as it comes up, or after its call.
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs", security(("token" = [])),
    params(("id" = String, Path, description = "The id of the job, percent-encoded")),
    responses((status = 200, description = "It ends now", body = Object), (status = 202, description = "It ends later", body = Object),
        (status = 404, description = "No such job"), (status = 409, description = "It has ended")))]
pub(crate) async fn cancel(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let mut backend = state.shared.backend_for_scans();
    let job = jobs::examine(&mut backend, &id, principal.merchants(), &NoProgress).await?;
    match &job.detail {
        CancelDetail::Unknown => return Err(Problem::new(ProblemKind::NotFound).detail("no job with this id is known")),
        CancelDetail::Ended(status) => {
            return Err(Problem::new(ProblemKind::Ended).detail(format!("it has ended: {status}")));
        }
        CancelDetail::Dead => {
            return Err(Problem::new(ProblemKind::Ended).detail("it has ended, and is among the dead letters"));
        }
        _ => {}
    }
    let cancelled = jobs::cancel_job(&mut backend, &principal.actor(), job).await?;
    let status = if cancelled.detail == CancelDetail::Delayed { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(cancelled)).into_response())
}
