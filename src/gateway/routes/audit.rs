//! `GET /v1/audit`

use super::query::Parameters;
use crate::{
    gateway::{
        access::{Access, Read},
        problem::Problem,
        state::GatewayState,
    },
    operations::audit::{self, AuditEntry},
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Default and maximum number of actions of one answer.
const LIMIT: (usize, usize) = (50, 1_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(crate) struct AuditAnswer {
    actions: Vec<AuditEntry>,
}

/// What operators did, the latest first.
#[utoipa::path(get, path = "/v1/audit", tag = "queue", security(("token" = [])),
    params(("limit" = Option<usize>, Query, description = "Maximum number of actions, 1 to 1000")),
    responses((status = 200, description = "Actions, the latest first", body = Object)))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Json<AuditAnswer>, Problem> {
    principal.require_all_merchants()?;
    let limit = query.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
    let mut actions = audit::list(&mut state.shared.backend(), limit).await?;
    actions.reverse();
    Ok(Json(AuditAnswer { actions }))
}
