//! The token endpoint: `client_credentials`, in the body or with HTTP Basic.

use super::{
    connection::Connection,
    fault::FaultKind,
    record::Route,
    reply::Reply,
    state::{Shared, Visit},
};
use axum::{
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rand::Rng;
use serde_json::json;
use std::{collections::HashMap, sync::Arc, time::Duration, time::Instant};

pub(super) async fn token(
    State(app): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut visit = Visit::begin(&app, Route::Token, None, None, None);
    let strike = visit.strike.as_ref().map(|strike| strike.kind.clone());
    if let Some(FaultKind::Delay(delay_ms)) = &strike {
        tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
    }
    let reply = match &strike {
        Some(FaultKind::Hang) => std::future::pending().await,
        Some(FaultKind::Status { status, retry_after, body }) => {
            Reply::ordered(*status, retry_after.clone(), body.as_ref())
        }
        _ => grant(&app, &headers, &body),
    };
    visit.end(&mut app.lock(), if strike == Some(FaultKind::Reset) { 0 } else { reply.status });
    match strike {
        Some(FaultKind::Reset) => {
            connection.cut();
            std::future::pending().await
        }
        Some(FaultKind::Truncate) => reply.truncated(),
        Some(FaultKind::Garbage) => reply.garbled().into_response(),
        _ => reply.into_response(),
    }
}

fn grant(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Reply {
    let refuse = |status, error: &str| Reply::json(status, &json!({ "error": error }));
    let form: HashMap<_, _> = url::form_urlencoded::parse(body).collect();
    let field = |name: &str| form.get(name).map(AsRef::as_ref);
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| basic(value.to_str().ok()?));
    let (id, secret) = match &basic {
        Some((id, secret)) => (Some(id.as_str()), Some(secret.as_str())),
        None => (field("client_id"), field("client_secret")),
    };
    let config = &shared.config;
    if id != Some(config.client_id.as_str()) || secret != Some(config.client_secret.as_str()) {
        return refuse(401, "invalid_client");
    }
    if field("grant_type") != Some("client_credentials") {
        return refuse(400, "unsupported_grant_type");
    }
    if field("scope") != Some("xco-api") {
        return refuse(400, "invalid_scope");
    }
    let mut inner = shared.lock();
    let token = format!("{:032x}", inner.model.rng.random::<u128>());
    let now = Instant::now();
    inner.tokens.retain(|_, end| now < *end);
    inner.tokens.insert(token.clone(), now + config.token_life);
    let life_s = config.token_life.as_secs();
    Reply::json(
        200,
        &json!({ "access_token": token, "token_type": "Bearer", "expires_in": life_s, "scope": "xco-api" }),
    )
}

fn basic(header: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(header.strip_prefix("Basic ")?).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    // Each half is form-encoded (RFC 6749 §2.3.1), so it is read as the name of a pair without a value.
    let decode = |text: &str| url::form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned());
    Some((decode(id)?, decode(secret)?))
}
