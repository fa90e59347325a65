//! `POST`, `GET`, `DELETE /v1/dead-letters/replays` and `/v1/dead-letters/discards`

use super::{
    dead_letters::filter_of,
    query::{Body, Parameters, faulty, parse},
};
use crate::{
    access::Principal,
    config::parse_rate,
    gateway::{
        access::{Access, Operate},
        layers::refuse_if_draining,
        problem::{Problem, ProblemKind},
        state::GatewayState,
    },
    operations::{
        Error,
        dead_letters::{
            Assignment, Changes, Filter, parse_pointer,
            replay::ReplayRequest,
            runs::{self, RunError, RunKind, RunName, RunReport, StartRequest, Work},
        },
    },
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Default and maximum number of runs of one answer.
const LIMIT: (usize, usize) = (50, 1_000);
/// The rate of a replay that names none.
const RATE: &str = "50/s";

/// What is to be planned or started: a plan, or a filter with what replays of its dead letters need.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunBody {
    plan: Option<String>,
    filter: Option<Value>,
    rate: Option<String>,
    #[serde(default)]
    accept_doubt: bool,
    #[serde(default)]
    send_codes: bool,
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    unset: Vec<String>,
    limit: Option<u64>,
    #[serde(default)]
    dry_run: bool,
}

impl RunBody {
    fn filter(&self, principal: &Principal) -> Result<Filter, Problem> {
        let filter = self.filter.clone().ok_or_else(|| faulty("filter", "or a plan is required; {} is everything"))?;
        filter_of(filter, principal.merchants())
    }

    fn replay(&self, filter: Filter) -> Result<ReplayRequest, Problem> {
        let rate = self.rate.as_deref().unwrap_or(RATE);
        let set = self.set.iter().map(|(pointer, value)| Assignment::new(pointer, value));
        let set = set.collect::<Result<_, _>>().map_err(|wanted| faulty("set", &wanted))?;
        let unset = self.unset.iter().map(|pointer| parse_pointer(pointer)).collect::<Result<_, _>>();
        Ok(ReplayRequest {
            filter,
            changes: Changes { set, unset: unset.map_err(|wanted| faulty("unset", &wanted))?, whole: None },
            send_codes: self.send_codes,
            accept_doubt: self.accept_doubt,
            rate: parse_rate(rate).map_err(|wanted| faulty("rate", &wanted))?,
            limit: self.limit,
        })
    }
}

/// Plans a replay (`dry_run`), or starts one: of a plan, or of a filter. It runs in the gateway; the answer's `Location` has its
/// progress. With an `Idempotency-Key` that is known, it continues an interrupted run.
#[utoipa::path(post, path = "/v1/dead-letters/replays", tag = "dead letters", security(("token" = [])), request_body = Object,
    responses((status = 200, description = "The plan", body = Object), (status = 202, description = "Started", body = Object),
        (status = 409, description = "The plan is out of date, or nothing fits")))]
pub(crate) async fn replay(
    state: State<Arc<GatewayState>>,
    access: Access<Operate>,
    headers: HeaderMap,
    body: Body<RunBody>,
) -> Result<Response, Problem> {
    begin(state, access, &headers, body, RunKind::Replay).await
}

/// Plans or starts the removal of dead letters, as [`replay`].
#[utoipa::path(post, path = "/v1/dead-letters/discards", tag = "dead letters", security(("token" = [])), request_body = Object,
    responses((status = 200, description = "The plan", body = Object), (status = 202, description = "Started", body = Object),
        (status = 409, description = "The plan is out of date, or nothing fits")))]
pub(crate) async fn discard(
    state: State<Arc<GatewayState>>,
    access: Access<Operate>,
    headers: HeaderMap,
    body: Body<RunBody>,
) -> Result<Response, Problem> {
    begin(state, access, &headers, body, RunKind::Discard).await
}

async fn begin(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    headers: &HeaderMap,
    Body(body): Body<RunBody>,
    kind: RunKind,
) -> Result<Response, Problem> {
    refuse_if_draining(&state)?;
    let mut backend = state.shared.backend_for_scans();
    if body.dry_run {
        let filter = body.filter(&principal)?;
        let plan = match kind {
            RunKind::Replay => {
                json!(runs::plan_replay(&mut backend, &state.config, body.replay(filter)?).await?)
            }
            RunKind::Discard => json!(runs::plan_discard(&mut backend, filter).await?),
        };
        return Ok(Json(json!({"plan": plan})).into_response());
    }
    let work = match (&body.plan, kind) {
        (Some(id), kind) => Work::Plan { id: id.clone(), kind },
        (None, RunKind::Replay) => Work::Replay(body.replay(body.filter(&principal)?)?),
        (None, RunKind::Discard) => Work::Discard(body.filter(&principal)?),
    };
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let name = key.map(|key| RunName::from_key(key.trim().trim_matches('"')));
    let request = StartRequest { work, name, merchants: principal.merchants().clone() };
    let report = state.runs.start(&mut backend, &principal.actor(), request).await?;
    let location = format!("/v1/dead-letters/{}s/{}", kind.as_str(), report.run);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(report)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunsQuery {
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(crate) struct RunsAnswer {
    runs: Vec<RunReport>,
}

/// The replays of a week, the latest first.
#[utoipa::path(get, path = "/v1/dead-letters/replays", tag = "dead letters", security(("token" = [])),
    params(("limit" = Option<usize>, Query)), responses((status = 200, description = "Replays", body = Object)))]
pub(crate) async fn replays(
    state: State<Arc<GatewayState>>,
    access: Access<Operate>,
    query: Parameters<RunsQuery>,
) -> Result<Json<RunsAnswer>, Problem> {
    list(state, access, query, RunKind::Replay).await
}

/// The discards of a week, the latest first.
#[utoipa::path(get, path = "/v1/dead-letters/discards", tag = "dead letters", security(("token" = [])),
    params(("limit" = Option<usize>, Query)), responses((status = 200, description = "Discards", body = Object)))]
pub(crate) async fn discards(
    state: State<Arc<GatewayState>>,
    access: Access<Operate>,
    query: Parameters<RunsQuery>,
) -> Result<Json<RunsAnswer>, Problem> {
    list(state, access, query, RunKind::Discard).await
}

async fn list(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    Parameters(query): Parameters<RunsQuery>,
    kind: RunKind,
) -> Result<Json<RunsAnswer>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
    let runs = runs::list(&mut state.shared.backend(), Some(kind), principal.merchants(), limit).await?;
    Ok(Json(RunsAnswer { runs }))
}

/// How far a run is: a replay or a discard.
#[utoipa::path(get, path = "/v1/dead-letters/replays/{run}", tag = "dead letters", security(("token" = [])),
    params(("run" = String, Path)), responses((status = 200, description = "The run", body = Object), (status = 404, description = "No such run")))]
pub(crate) async fn progress(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    Path(run): Path<String>,
) -> Result<Json<RunReport>, Problem> {
    let name = name_of(&run)?;
    Ok(Json(runs::get(&mut state.shared.backend(), &name, principal.merchants()).await?))
}

/// Stops a run within about a second. Jobs that it has moved stay moved.
#[utoipa::path(delete, path = "/v1/dead-letters/replays/{run}", tag = "dead letters", security(("token" = [])),
    params(("run" = String, Path)), responses((status = 202, description = "It stops", body = Object), (status = 404, description = "No such run")))]
pub(crate) async fn stop(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Operate>,
    Path(run): Path<String>,
) -> Result<(StatusCode, Json<RunReport>), Problem> {
    let name = name_of(&run)?;
    let report = runs::stop(&mut state.shared.backend(), &principal.actor(), &name, principal.merchants()).await?;
    Ok((StatusCode::ACCEPTED, Json(report)))
}

fn name_of(run: &str) -> Result<RunName, Problem> {
    parse("run", run, "is no name of a run").map_err(|_| Problem::new(ProblemKind::NotFound))
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Self {
        let kind = match error {
            RunError::Operation(Error::NoDeadLetter) | RunError::PlanOutdated => ProblemKind::PlanOutdated,
            RunError::Operation(error) => return error.into(),
            RunError::TooManyRuns => ProblemKind::Conflict,
            RunError::NameTaken => ProblemKind::IdConflict,
            RunError::UnknownRun => ProblemKind::NotFound,
            RunError::TooLarge => ProblemKind::TooLarge,
        };
        let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        Self::new(kind).detail(format!("{error}{remedy}"))
    }
}
