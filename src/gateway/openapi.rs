//! `GET /openapi.json`

use super::routes;
use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(title = "xco-worker gateway", description = "Jobs, completions and operations over HTTP. Errors are application/problem+json (RFC 9457)."),
    modifiers(&Security),
    paths(
        routes::enqueue::enqueue, routes::jobs::list, routes::jobs::search, routes::jobs::one, routes::jobs::cancel,
        routes::dead_letters::list, routes::dead_letters::one, routes::runs::replay, routes::runs::replays,
        routes::runs::progress, routes::runs::stop, routes::runs::discard, routes::runs::discards, routes::wait::wait, routes::completions::follow, routes::status::status, routes::audit::list,
        routes::limits::list, routes::limits::change, routes::callers::list, routes::callers::one, routes::batches::list, routes::batches::one,
        routes::backfills::list, routes::backfills::one, routes::pauses::list, routes::pauses::pause, routes::pauses::resume,
    )
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_with(Components::new).add_security_scheme("token", bearer);
    }
}

/// The description of the gateway's routes, as an `OpenAPI` 3.1 document.
pub fn openapi_document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Serves the description.
pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi_document())
}
