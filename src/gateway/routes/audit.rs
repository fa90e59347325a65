//! `GET /v1/audit`

use super::query::{Parameters, faulty, parse};
use crate::{
    gateway::{
        access::{Access, Read},
        problem::Problem,
        state::GatewayState,
    },
    operations::audit::{self, AuditCursor, AuditFilter, AuditPage, AuditRequest, MOST_LISTED},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::Arc;

/// Actions of a page that names no `limit`.
const LISTED: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    who: Option<String>,
    action: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// What operators did, the latest first. A page reads at most 20,000 actions: `complete` says whether the oldest was among them, and
/// `cursor` goes on.
#[utoipa::path(get, path = "/v1/audit", tag = "queue", security(("token" = [])),
    params(("who" = Option<String>, Query, description = "A part of the name of a person or a token"),
        ("action" = Option<String>, Query, description = "A part of the name of an action, such as `dead replay`"),
        ("limit" = Option<usize>, Query, description = "Maximum number of actions, 1 to 1000; 50 if left out"),
        ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "Actions, the latest first", body = Object), (status = 400, description = "A parameter is not valid")))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    principal.require_all_merchants()?;
    let limit = query.limit.unwrap_or(LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(faulty("limit", &format!("must be from 1 to {MOST_LISTED}")));
    }
    let cursor = query.cursor.as_deref().map(|text| parse::<AuditCursor>("cursor", text, "is no cursor of the audit"));
    let filter = AuditFilter { who: query.who, action: query.action, up_to_ms: None };
    let request = AuditRequest { filter, limit, cursor: cursor.transpose()? };
    Ok(Json(audit::page(&mut state.shared.backend(), &request).await?))
}
