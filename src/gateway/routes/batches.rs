//! `GET /v1/batches`, `GET /v1/batches/{name}`

use super::query::{Parameters, faulty, parse};
use crate::{
    gateway::{
        access::{Access, Read},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::batches::{self, Batch, BatchCursor, BatchList, MOST_LISTED},
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use std::sync::Arc;

/// Batches of a page that names no `limit`.
const LISTED: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchesQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The batches of the last 30 days, by name within a page. A page may have some more than `limit`, and a batch may come in two pages.
#[utoipa::path(get, path = "/v1/batches", tag = "batches", security(("token" = [])),
    params(("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "One page", body = Object), (status = 400, description = "The request is not valid")))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Parameters(query): Parameters<BatchesQuery>,
) -> Result<Json<BatchList>, Problem> {
    principal.require_all_merchants()?;
    let limit = query.limit.unwrap_or(LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(faulty("limit", &format!("must be from 1 to {MOST_LISTED}")));
    }
    let cursor = query
        .cursor
        .map(|text| parse::<BatchCursor>("cursor", &text, "must be a cursor that a list of batches returned"))
        .transpose()?;
    Ok(Json(batches::list(&mut state.shared.backend_for_scans(), limit, cursor.as_ref()).await?))
}

/// One batch: how many of its jobs were enqueued and have ended, and whether an operator cancelled it.
#[utoipa::path(get, path = "/v1/batches/{name}", tag = "batches", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the batch")),
    responses((status = 200, description = "The batch", body = Object), (status = 404, description = "Redis holds nothing about it")))]
pub(crate) async fn one(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Path(name): Path<String>,
) -> Result<Json<Batch>, Problem> {
    principal.require_all_merchants()?;
    let found = batches::one(&mut state.shared.backend(), &name).await?;
    found.map(Json).ok_or_else(|| Problem::new(ProblemKind::NotFound))
}
