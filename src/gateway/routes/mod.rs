//! The routes of the gateway. One file for each kind of thing that they are about.

pub(super) mod audit;
pub(super) mod backfills;
pub(super) mod batches;
mod bulk;
pub(super) mod callers;
pub(super) mod completions;
pub(super) mod dead_letters;
pub(super) mod enqueue;
mod events;
pub(super) mod jobs;
pub(super) mod limits;
mod media;
pub(super) mod pauses;
mod prefer;
mod query;
pub(super) mod runs;
pub(super) mod status;
mod submission;
pub(super) mod wait;

use super::{
    access::{Access, Read},
    openapi,
    problem::{Problem, ProblemKind},
    state::GatewayState,
};
use crate::console;
use crate::telemetry::{Readiness, probe_routes};
use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{Redirect, Response},
    routing::{get, post},
};
use std::sync::Arc;

/// Every route. What a route requires of a token stands in the arguments of its handler.
pub(super) fn all(state: &Arc<GatewayState>, readiness: Readiness) -> Router<Arc<GatewayState>> {
    let probes: Router<Arc<GatewayState>> = probe_routes(readiness, state.metrics.clone()).with_state(());
    let for_readers = middleware::from_fn_with_state(Arc::clone(state), metrics_need_a_token);
    let pages: Router<Arc<GatewayState>> = console::routes(Arc::clone(&state.console)).with_state(());
    Router::new()
        .nest("/console", pages)
        .route("/console/", get(async || Redirect::permanent("/console")))
        .route("/v1/jobs", post(enqueue::enqueue).get(jobs::list))
        .route("/v1/jobs/search", post(jobs::search))
        .route("/v1/jobs/{id}", get(jobs::one).delete(jobs::cancel))
        .route("/v1/jobs/{id}/wait", get(wait::wait).options(wait::preflight))
        .route("/v1/completions", get(completions::follow))
        .route("/v1/status", get(status::status))
        .route("/v1/audit", get(audit::list))
        .route("/v1/limits", get(limits::list).put(limits::change))
        .route("/v1/callers", get(callers::list))
        .route("/v1/callers/{id}", get(callers::one))
        .route("/v1/batches", get(batches::list))
        .route("/v1/batches/{name}", get(batches::one))
        .route("/v1/backfills", get(backfills::list))
        .route("/v1/backfills/{batch}", get(backfills::one))
        .route("/v1/backfills/{batch}/results", get(backfills::results))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/{id}", get(dead_letters::one))
        .route("/v1/dead-letters/replays", post(runs::replay).get(runs::replays))
        .route("/v1/dead-letters/replays/{run}", get(runs::progress).delete(runs::stop))
        .route("/v1/dead-letters/discards", post(runs::discard).get(runs::discards))
        .route("/v1/dead-letters/discards/{run}", get(runs::progress).delete(runs::stop))
        .route("/v1/pauses", get(pauses::list).post(pauses::pause).delete(pauses::resume))
        .route("/openapi.json", get(openapi::serve))
        .merge(probes.layer(for_readers))
        .fallback(async || Problem::new(ProblemKind::NotFound))
}

/// `/metrics` needs the role `read` and a token for all merchants: on this listener anybody may ask. `gateway.probe_listen` has it without a token.
async fn metrics_need_a_token(
    axum::extract::State(state): axum::extract::State<Arc<GatewayState>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.uri().path() != "/metrics" {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let Access(principal, _) =
        <Access<Read> as axum::extract::FromRequestParts<_>>::from_request_parts(&mut parts, &state).await?;
    principal.require_all_merchants()?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}
