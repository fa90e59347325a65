//! `GET /v1/jobs/{id}`, `DELETE /v1/jobs/{id}`

use crate::{
    gateway::{
        access::{Access, Operate},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::{
        NoProgress,
        jobs::{self, CancelDetail, JobCancelled},
    },
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

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
    let mut backend = state.shared.backend();
    let job = jobs::examine(&mut backend, &id, &NoProgress).await?;
    match &job.detail {
        CancelDetail::Unknown => return Err(Problem::new(ProblemKind::NotFound)),
        CancelDetail::Ended(status) => {
            return Err(Problem::new(ProblemKind::Ended).detail(format!("it has ended: {status}")));
        }
        CancelDetail::Dead => {
            return Err(Problem::new(ProblemKind::Ended).detail("it has ended, and is among the dead letters"));
        }
        _ => {}
    }
    let cancelled: JobCancelled = jobs::cancel_job(&mut backend, &principal.actor(), job).await?;
    let status = if cancelled.detail == CancelDetail::Delayed { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(cancelled)).into_response())
}
