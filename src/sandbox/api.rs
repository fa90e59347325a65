//! The five calls of the API.

use super::{
    connection::Connection,
    fault::{FaultKind, Strike},
    model::Outcome,
    record::Route,
    reply::{Problem, Reply},
    state::{Inner, Shared, Visit},
};
use axum::{
    body::Bytes,
    extract::{ConnectInfo, Path, RawQuery, State},
    http::{HeaderMap, HeaderValue},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration, time::Instant};

/// A received call.
struct Input {
    route: Route,
    merchant: Option<String>,
    reference: Option<String>,
    /// Members of the query or the body. `None` if the body is not a JSON object.
    args: Option<Map<String, Value>>,
    headers: HeaderMap,
}

impl Input {
    fn member(&self, name: &str) -> Option<&str> {
        self.args.as_ref()?.get(name)?.as_str()
    }

    fn key(&self) -> Option<&str> {
        self.reference
            .as_deref()
            .or_else(|| self.member("customer_reference"))
            .or_else(|| self.member("email"))
            .or_else(|| self.member("phone_number"))
    }
}

type App = State<Arc<Shared>>;
type Peer = ConnectInfo<Connection>;

pub(super) async fn exists(State(app): App, peer: Peer, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let args = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
        .collect();
    let input = Input { route: Route::Exists, merchant: None, reference: None, args: Some(args), headers };
    answer(&app, &peer.0, input).await
}

pub(super) async fn create(
    app: App,
    peer: Peer,
    Path(merchant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    post(Route::Create, app, peer, merchant, None, headers, &body).await
}

pub(super) async fn start(
    app: App,
    peer: Peer,
    Path(merchant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    post(Route::Start, app, peer, merchant, None, headers, &body).await
}

pub(super) async fn verify(
    app: App,
    peer: Peer,
    Path(merchant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    post(Route::Verify, app, peer, merchant, None, headers, &body).await
}

pub(super) async fn consent(
    app: App,
    peer: Peer,
    Path((merchant, reference)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    post(Route::Consent, app, peer, merchant, Some(reference), headers, &body).await
}

async fn post(
    route: Route,
    State(app): App,
    peer: Peer,
    merchant: String,
    reference: Option<String>,
    headers: HeaderMap,
    body: &[u8],
) -> Response {
    let args = serde_json::from_slice(body).ok();
    answer(&app, &peer.0, Input { route, merchant: Some(merchant), reference, args, headers }).await
}

async fn answer(shared: &Shared, connection: &Connection, input: Input) -> Response {
    let traceparent = input.headers.get("traceparent").and_then(|value| value.to_str().ok());
    let mut visit = Visit::begin(shared, input.route, input.member("caller_id"), input.key(), traceparent);
    let working = shared.room().await;
    if !visit.latency.is_zero() {
        tokio::time::sleep(visit.latency).await;
    }
    let strike = visit.strike.clone();
    if let Some(Strike { kind: FaultKind::Delay(delay_ms), .. }) = &strike {
        tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
    }
    drop(working);
    let takes_place = strike.as_ref().is_none_or(|strike| {
        strike.after_effect || matches!(strike.kind, FaultKind::Delay(_) | FaultKind::Truncate | FaultKind::Garbage)
    });
    let reply = {
        let mut inner = shared.lock();
        let reply = if takes_place { act(shared, &mut inner, &input) } else { Reply::no_content() };
        let (reply, status) = match &strike {
            Some(Strike { kind: FaultKind::Hang | FaultKind::Reset, .. }) => (reply, 0),
            Some(Strike { kind: FaultKind::Status { status, retry_after, body }, .. }) => {
                (Reply::ordered(*status, retry_after.clone(), body.as_ref()), *status)
            }
            _ => {
                let status = reply.status;
                (reply, status)
            }
        };
        // A hanging call ends when the client disconnects.
        if !matches!(&strike, Some(Strike { kind: FaultKind::Hang, .. })) {
            visit.end(&mut inner, status);
        }
        reply
    };
    match strike.map(|strike| strike.kind) {
        Some(FaultKind::Hang) => std::future::pending().await,
        Some(FaultKind::Reset) => {
            connection.cut();
            std::future::pending().await
        }
        Some(FaultKind::Truncate) => reply.truncated(),
        Some(FaultKind::Garbage) => reply.garbled().into_response(),
        _ => reply.into_response(),
    }
}

/// Executes the call: checks token, key, limits and merchant, then does what it asks for.
fn act(shared: &Shared, inner: &mut Inner, input: &Input) -> Reply {
    let config = &shared.config;
    if !inner.accepts_token(&input.headers) {
        return Problem::token().into_reply();
    }
    let given = input.headers.get("x-api-key").map(HeaderValue::as_bytes);
    if config.api_key.as_deref().is_some_and(|key| given != Some(key.as_bytes())) {
        return Problem::new(403, "invalid-api-key", "The API key is missing or invalid").into_reply();
    }
    let limits = (config.caller_limit, config.client_limit);
    if let Err(wait) = inner.buckets.take(input.member("caller_id"), limits, Instant::now()) {
        return Problem::rate_limited(config.send_retry_after.then_some(wait)).into_reply();
    }
    let merchant = input.merchant.as_deref().unwrap_or("");
    if input.route != Route::Exists && !is_merchant(merchant, config.merchant_id.as_deref()) {
        return Problem::merchant_not_found().into_reply();
    }
    let Some(args) = &input.args else {
        return Problem::validation(vec![(String::new(), "no JSON object".to_owned())]).into_reply();
    };
    let (result, done): Outcome = match input.route {
        Route::Exists => inner.model.exists(args),
        Route::Create => inner.model.create(args, merchant, config),
        Route::Start => inner.model.start(args),
        Route::Verify => inner.model.verify(args, config),
        Route::Consent => inner.model.consent(args, merchant, input.reference.as_deref().unwrap_or("")),
        Route::Token => return Problem::of_status(404, None).into_reply(),
    };
    if let Some(done) = done {
        shared.note(inner, done);
    }
    result.unwrap_or_else(Problem::into_reply)
}

fn is_merchant(given: &str, only: Option<&str>) -> bool {
    match only {
        Some(only) => given.eq_ignore_ascii_case(only),
        None => uuid::Uuid::parse_str(given).is_ok(),
    }
}
