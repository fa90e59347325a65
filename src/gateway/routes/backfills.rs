//! `GET /v1/backfills`, `GET /v1/backfills/{batch}`

use crate::{
    gateway::{
        access::{Access, Read},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::backfill::{self, BackfillSummary},
};
use axum::{
    Json,
    extract::{Path, State},
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

/// One backfill. The results of its rows are in the files beside the importer's machine.
#[utoipa::path(get, path = "/v1/backfills/{batch}", tag = "backfills", security(("token" = [])),
    params(("batch" = String, Path, description = "Name of the batch")),
    responses((status = 200, description = "The backfill", body = Object), (status = 404, description = "No backfill has this batch")))]
pub(crate) async fn one(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Path(batch): Path<String>,
) -> Result<Json<BackfillSummary>, Problem> {
    principal.require_all_merchants()?;
    let backfills = backfill::list(&mut state.shared.backend()).await?;
    let found = backfills.into_iter().find(|backfill| backfill.batch == batch);
    found.map(Json).ok_or_else(|| Problem::new(ProblemKind::NotFound))
}
