//! `GET /v1/dead-letters`, `GET /v1/dead-letters/{id}`

use super::{
    media,
    query::{Parameters, faulty, parse},
};
use crate::{
    access::Principal,
    config::GatewayRole,
    console::file,
    gateway::{
        access::{Access, Read},
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    net::streamed,
    operations::{
        MerchantScope,
        dead_letters::{self, Filter, GroupBy, Groups, ListRequest, Reveal, ShowReport, ShowRequest, export_to},
    },
};
use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Default and maximum number of dead letters, and of groups, of one answer.
const LIMIT: (usize, usize) = (50, 1_000);

/// Parameters that are lists, with commas.
const LISTS: [&str; 4] = ["type", "error", "status", "id"];

/// Which dead letters, and how they are shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterQuery {
    #[serde(rename = "type")]
    job_type: Option<String>,
    error: Option<String>,
    status: Option<String>,
    http_status: Option<String>,
    problem: Option<String>,
    batch: Option<String>,
    caller: Option<String>,
    customer_reference: Option<String>,
    since: Option<String>,
    until: Option<String>,
    id: Option<String>,
    replayable: Option<bool>,
    by: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    reveal: bool,
    reason: Option<String>,
}

impl DeadLetterQuery {
    fn filter(&self, merchants: &MerchantScope) -> Result<Filter, Problem> {
        let mut members = Map::new();
        let texts = [
            ("type", &self.job_type),
            ("error", &self.error),
            ("status", &self.status),
            ("http_status", &self.http_status),
            ("problem", &self.problem),
            ("batch", &self.batch),
            ("caller", &self.caller),
            ("customer_reference", &self.customer_reference),
            ("since", &self.since),
            ("until", &self.until),
            ("id", &self.id),
        ];
        for (name, text) in texts {
            let Some(text) = text else { continue };
            let list = || text.split(',').map(|part| Value::from(part.trim())).collect();
            let value = if LISTS.contains(&name) { list() } else { Value::from(text.as_str()) };
            members.insert(name.to_owned(), value);
        }
        if self.replayable == Some(true) {
            members.insert("replayable".to_owned(), true.into());
        }
        filter_of(members.into(), merchants)
    }
}

/// Reads a filter, and restricts it to merchants.
pub(super) fn filter_of(filter: Value, merchants: &MerchantScope) -> Result<Filter, Problem> {
    let filter: Filter = serde_json::from_value(filter).map_err(|error| faulty("filter", &error.to_string()))?;
    Ok(Filter { merchants: merchants.clone(), ..filter })
}

/// Whether, and why, personal data is shown.
fn reveal_of(principal: &Principal, reveal: bool, reason: Option<&str>) -> Result<Reveal, Problem> {
    if !reveal {
        return Ok(Reveal::Masked);
    }
    principal.require(GatewayRole::Operate)?;
    let reason = reason.unwrap_or_default().parse().map_err(|wanted: String| faulty("reason", &wanted))?;
    Ok(Reveal::ForReason(reason))
}

/// Dead letters that fit, the latest first; with `by`, how many there are of each group; with `Accept: application/x-ndjson`, all of
/// them as NDJSON. Personal data is masked; `reveal=true` needs `operate` and a `reason`, and is audited.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters", security(("token" = [])),
    params(("type" = Option<String>, Query), ("error" = Option<String>, Query), ("status" = Option<String>, Query),
        ("http_status" = Option<String>, Query), ("problem" = Option<String>, Query), ("batch" = Option<String>, Query),
        ("caller" = Option<String>, Query), ("customer_reference" = Option<String>, Query), ("since" = Option<String>, Query),
        ("until" = Option<String>, Query), ("id" = Option<String>, Query), ("replayable" = Option<bool>, Query),
        ("by" = Option<String>, Query, description = "type, error.kind, …; several with commas"), ("limit" = Option<usize>, Query),
        ("cursor" = Option<String>, Query), ("reveal" = Option<bool>, Query), ("reason" = Option<String>, Query)),
    responses((status = 200, description = "Dead letters", body = Object), (status = 400, description = "A parameter is not valid")))]
pub(crate) async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Parameters(query): Parameters<DeadLetterQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = query.filter(principal.merchants())?;
    let limit = query.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
    if media::accepts(&headers, media::NDJSON) {
        let reveal = reveal_of(&principal, query.reveal, query.reason.as_deref())?;
        let stream = principal.token.rate().stream()?;
        let body = streamed(async move |to| {
            let _stream = stream;
            let mut backend = state.shared.backend_for_scans();
            export_to(&mut backend, &principal.actor(), &filter, &reveal, &to).await
        });
        return Ok(file(media::NDJSON, "dead-letters.ndjson", body));
    }
    let mut backend = state.shared.backend_for_scans();
    if let Some(by) = &query.by {
        let by: Result<Vec<GroupBy>, _> =
            by.split(',').map(|by| parse("by", by.trim(), "is no property of a dead letter")).collect();
        let groups: Groups = dead_letters::group(&mut backend, &filter, by?, limit).await?;
        // Groups by caller or customer are personal data.
        let groups = if principal.sees_personal_data() { groups } else { groups.fingerprinted() };
        return Ok(Json(groups).into_response());
    }
    let after =
        query.cursor.as_deref().map(|cursor| parse("cursor", cursor, "is no cursor of dead letters")).transpose()?;
    let list = dead_letters::list(&mut backend, &ListRequest { filter, limit, after }).await?;
    Ok(Json(list.masked()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowQuery {
    #[serde(default)]
    reveal: bool,
    reason: Option<String>,
}

/// The dead letters of one job, and edits of them. Personal data is masked; `reveal=true` needs `operate` and a `reason`.
#[utoipa::path(get, path = "/v1/dead-letters/{id}", tag = "dead letters", security(("token" = [])),
    params(("id" = String, Path, description = "The id of the job"), ("reveal" = Option<bool>, Query), ("reason" = Option<String>, Query)),
    responses((status = 200, description = "Dead letters", body = Object), (status = 404, description = "No dead letter has this id")))]
pub(crate) async fn one(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
    Path(id): Path<String>,
    Parameters(query): Parameters<ShowQuery>,
) -> Result<Json<ShowReport>, Problem> {
    let reveal = reveal_of(&principal, query.reveal, query.reason.as_deref())?;
    let request = ShowRequest { id: &id, merchants: principal.merchants(), reveal };
    let report = dead_letters::show(&mut state.shared.backend_for_scans(), &principal.actor(), &request).await?;
    if report.dead_letters.is_empty() {
        return Err(Problem::new(ProblemKind::NotFound).detail("no dead letter has this id"));
    }
    Ok(Json(report))
}
