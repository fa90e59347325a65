//! `GET /v1/backfills`, `GET /v1/backfills/{batch}`, `GET /v1/backfills/{batch}/results`

use super::media;
use crate::{
    console::file,
    gateway::{
        access::{Access, Read},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    net::streamed,
    operations::backfill::{self, BackfillSummary},
};
use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
pub(crate) struct BackfillsAnswer {
    backfills: Vec<BackfillSummary>,
}

/// The backfills of the last 30 days, the latest first.
#[utoipa::path(get, path = "/v1/backfills", tag = "backfills", security(("token" = [])),
    responses((status = 200, description = "Backfills", body = Object)))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
) -> Result<Json<BackfillsAnswer>, Problem> {
    principal.require_all_merchants()?;
    let backfills = backfill::list(&mut state.shared.backend()).await?;
    Ok(Json(BackfillsAnswer { backfills }))
}

/// One backfill.
#[utoipa::path(get, path = "/v1/backfills/{batch}", tag = "backfills", security(("token" = [])),
    params(("batch" = String, Path, description = "Name of the batch")),
    responses((status = 200, description = "The backfill", body = Object), (status = 404, description = "No backfill has this batch")))]
pub(crate) async fn one(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Path(batch): Path<String>,
) -> Result<Json<BackfillSummary>, Problem> {
    principal.require_all_merchants()?;
    let found = backfill::one(&mut state.shared.backend(), &batch).await?;
    found.map(Json).ok_or_else(|| Problem::new(ProblemKind::NotFound))
}

/// The results of a backfill's rows as CSV: `row,outcome,error,attempts`, a line for each row that has ended and was collected. Redis
/// keeps no references: they are in the result file on the machine that fed the backfill.
#[utoipa::path(get, path = "/v1/backfills/{batch}/results", tag = "backfills", security(("token" = [])),
    params(("batch" = String, Path, description = "Name of the batch")),
    responses((status = 200, description = "The results", body = String, content_type = "text/csv"),
        (status = 404, description = "No backfill has this batch")))]
pub(crate) async fn results(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Path(batch): Path<String>,
) -> Result<Response, Problem> {
    principal.require_all_merchants()?;
    let stream = principal.token.rate().stream()?;
    if backfill::one(&mut state.shared.backend(), &batch).await?.is_none() {
        return Err(Problem::new(ProblemKind::NotFound));
    }
    let body = streamed(async move |to| {
        let _stream = stream;
        backfill::results_to(&mut state.shared.backend_for_scans(), &batch, &to).await
    });
    Ok(file(media::CSV, "results.csv", body))
}
