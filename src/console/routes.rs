//! The addresses of the console.

use super::{assets, error::ConsoleError, layers, live, pages, state::ConsoleState};
use axum::{
    Router, middleware,
    routing::{get, post},
};
use std::sync::Arc;

/// All pages, relative to `/console`.
pub fn routes(state: Arc<ConsoleState>) -> Router {
    Router::new()
        .route("/", get(pages::overview::page))
        .route("/live", get(live::live))
        .route("/jobs", get(pages::jobs::page))
        .route("/jobs/search", post(pages::jobs::search))
        .route("/jobs/{id}", get(pages::job::page))
        .route("/jobs/{id}/cancel", get(pages::cancel::plan).post(pages::cancel::cancel))
        .route("/audit", get(pages::audit::page))
        .route("/dead", get(pages::dead::page))
        .route("/dead/download", get(pages::dead::download))
        .route("/dead/letter", get(pages::dead::letter::page).post(pages::dead::letter::reveal))
        .route("/dead/plan", post(pages::dead::plan::plan))
        .route("/dead/start", post(pages::dead::plan::start))
        .route("/dead/runs", get(pages::dead::runs::list))
        .route("/dead/runs/{run}", get(pages::dead::runs::one))
        .route("/dead/runs/{run}/stop", post(pages::dead::runs::stop))
        .route("/dead/runs/{run}/continue", post(pages::dead::runs::go_on))
        .route("/rules", get(pages::rules::page))
        .route("/rules/plan", post(pages::rules::plan))
        .route("/rules/pause", post(pages::rules::pause))
        .route("/rules/end", post(pages::rules::end))
        .route("/cancel/plan", post(pages::cancel_many::plan))
        .route("/cancel", post(pages::cancel_many::cancel))
        .route("/limits/plan", post(pages::limits::plan))
        .route("/limits/change", post(pages::limits::change))
        .route("/callers", get(pages::callers::page))
        .route("/batches", get(pages::batches::page))
        .route("/batches/{batch}/results", get(pages::batches::results))
        .route("/login", get(pages::login::page).post(pages::login::log_in))
        .route("/logout", post(pages::login::log_out))
        .route("/theme", post(pages::login::set_theme))
        .route("/assets/{file}", get(assets::serve))
        .fallback(async || ConsoleError::NotFound("there is no such page".to_owned()))
        .layer(middleware::from_fn(layers::secure))
        .with_state(state)
}
