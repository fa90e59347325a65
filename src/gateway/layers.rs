//! What happens to every request and every answer.

use super::{
    access::RequestsLeft,
    problem::{Problem, ProblemKind},
    state::GatewayState,
};
use crate::access::POLICY;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use uuid::Uuid;

/// Time for the head of an answer. Streams may go on longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Headers of every answer. The console's pages have stricter ones of their own.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Gives the request an id, renders problems, and adds the headers that every answer has.
pub(crate) async fn wrap(State(state): State<Arc<GatewayState>>, mut request: Request, next: Next) -> Response {
    let request_id = Uuid::now_v7().to_string();
    let method = request.method().clone();
    // Without the query: it may hold a ticket.
    let path = request.uri().path().to_owned();
    let left = RequestsLeft::default();
    request.extensions_mut().insert(left.clone());
    let answered = timeout(ANSWER_TIMEOUT, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| {
        let response = Problem::new(ProblemKind::TimedOut);
        response.render(&request_id)
    });
    if let Some(problem) = problem_of(&response) {
        let bare = std::mem::replace(&mut response, problem.render(&request_id));
        keep_headers(bare.headers(), response.headers_mut());
    }
    tracing::debug!(%method, path = shown_path(&path), status = response.status().as_u16(), request_id, "answered");
    state.metrics.gateway_request(response.status().as_u16());
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(left) = left.0.get()
        && let Ok(left) = HeaderValue::from_str(&format!("\"requests\";r={left};t=1"))
    {
        headers.insert(RATE_LIMIT, left);
        headers.insert(RATE_LIMIT_POLICY, HeaderValue::from_static(POLICY));
    }
    if let Some(url) = &state.config.gateway.public_url
        && url.starts_with("https://")
    {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static("max-age=31536000"));
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

/// Keeps the headers of an answer whose body is replaced, such as `Allow` and those that let a page of another origin read it.
fn keep_headers(bare: &HeaderMap, rendered: &mut HeaderMap) {
    for (name, value) in bare {
        // Those that are about the former body do not fit the new one.
        if !name.as_str().starts_with("content-") && *name != header::TRANSFER_ENCODING {
            rendered.append(name, value.clone());
        }
    }
}

/// The problem of an answer: a handler's, or one that the router answers by itself.
fn problem_of(response: &Response) -> Option<Problem> {
    if let Some(problem) = response.extensions().get::<Problem>() {
        return Some(problem.clone());
    }
    let kind = match response.status() {
        // A path that is not UTF-8.
        StatusCode::BAD_REQUEST => ProblemKind::BadRequest,
        StatusCode::METHOD_NOT_ALLOWED => ProblemKind::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemKind::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemKind::UnsupportedType,
        _ => return None,
    };
    // The router's own answers have no content type.
    let is_bare =
        response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    is_bare.then(|| Problem::new(kind))
}

/// The parts of a path that name no job, caller or letter. What stands in a path of no route may be about anybody.
fn shown_path(path: &str) -> String {
    let parts: Vec<_> = path.split('/').take(3).collect();
    if matches!(
        parts[..],
        ["", "v1", _] | ["", "console", ..] | ["", "healthz" | "readyz" | "metrics" | "openapi.json"]
    ) {
        parts.join("/")
    } else {
        "/…".to_owned()
    }
}

/// Refuses requests while the gateway stops.
pub(crate) fn refuse_if_draining(state: &GatewayState) -> Result<(), Problem> {
    if state.draining.is_cancelled() {
        return Err(Problem::new(ProblemKind::Draining).retry_after(1));
    }
    Ok(())
}
