//! `GET /v1/callers`, `GET /v1/callers/{id}`

use super::query::{Parameters, faulty, parse};
use crate::{
    gateway::{
        access::{Access, Read},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::callers::{self, Caller, CallerCursor, CallerList, CallerListRequest, CallerState, MOST_LISTED},
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use std::sync::Arc;

/// Callers of a page that names no `limit`.
const LISTED: usize = 100;
/// Longest name of a caller, in bytes.
const MAX_CALLER_BYTES: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallersQuery {
    state: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl CallersQuery {
    fn request(self) -> Result<CallerListRequest, Problem> {
        let state = self.state.as_deref().unwrap_or("closed");
        let limit = self.limit.unwrap_or(LISTED);
        if !(1..=MOST_LISTED).contains(&limit) {
            return Err(faulty("limit", &format!("must be from 1 to {MOST_LISTED}")));
        }
        let cursor = self
            .cursor
            .map(|text| parse::<CallerCursor>("cursor", &text, "must be a cursor that a list of callers returned"));
        Ok(CallerListRequest {
            state: parse::<CallerState>("state", state, "must be closed, limited or delayed")?,
            limit,
            cursor: cursor.transpose()?,
        })
    }
}

/// Callers that a 429 has closed, that met one within ten minutes, or that have jobs which come back later.
///
/// A token without the role `enqueue` sees them as fingerprints, because a caller is often a customer's address.
#[utoipa::path(get, path = "/v1/callers", tag = "limits", security(("token" = [])),
    params(("state" = Option<String>, Query, description = "closed (the default), limited or delayed"),
        ("limit" = Option<usize>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "One page", body = Object), (status = 400, description = "The request is not valid")))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Parameters(query): Parameters<CallersQuery>,
) -> Result<Json<CallerList>, Problem> {
    principal.require_all_merchants()?;
    let request = query.request()?;
    let list = callers::list(&mut state.shared.backend_for_scans(), &state.config, request).await?;
    Ok(Json(if principal.sees_personal_data() { list } else { list.fingerprinted() }))
}

/// One caller: its limit, what 429s have taught it, and how many of its jobs wait.
#[utoipa::path(get, path = "/v1/callers/{id}", tag = "limits", security(("token" = [])),
    params(("id" = String, Path, description = "The caller_id, or the customer reference that takes its place")),
    responses((status = 200, description = "The caller", body = Object),
        (status = 404, description = "It met no 429 within ten minutes, has no jobs, and is not paused")))]
pub(crate) async fn one(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Path(id): Path<String>,
) -> Result<Json<Caller>, Problem> {
    principal.require_all_merchants()?;
    let not_found = || Problem::new(ProblemKind::NotFound);
    if !(1..=MAX_CALLER_BYTES).contains(&id.len()) {
        return Err(not_found());
    }
    let caller = callers::one(&mut state.shared.backend_for_scans(), &state.config, &id).await?;
    if !caller.is_known() {
        return Err(not_found());
    }
    Ok(Json(if principal.sees_personal_data() { caller } else { caller.fingerprinted() }))
}
