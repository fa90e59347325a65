//! Answers, and problem documents (RFC 7807).

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use serde_json::{Value, json};
use std::{io, time::Duration};

/// A refusal, as a problem document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) status: u16,
    /// A URI, or the last segment of one of Purse's URIs.
    pub(super) kind: String,
    pub(super) title: String,
    pub(super) detail: String,
    /// Pointer and detail of each faulty field.
    pub(super) errors: Vec<(String, String)>,
    pub(super) retry_after: Option<String>,
    /// Whether the fault is the token: adds `WWW-Authenticate: Bearer error="invalid_token"`.
    pub(super) token: bool,
}

impl Problem {
    pub(super) fn new(status: u16, kind: &str, title: &str) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            title: title.to_owned(),
            detail: String::new(),
            errors: Vec::new(),
            retry_after: None,
            token: false,
        }
    }

    pub(super) fn validation(errors: Vec<(String, String)>) -> Self {
        Self { errors, ..Self::new(400, "validation-error", "Validation error") }
    }

    pub(super) fn merchant_not_found() -> Self {
        Self::new(404, "merchant-not-found", "Merchant not found")
    }

    pub(super) fn token() -> Self {
        Self { token: true, ..Self::new(401, "invalid-token", "The access token is missing, expired or invalid") }
    }

    /// A 429. Its `Retry-After` is in whole seconds, rounded up.
    pub(super) fn rate_limited(wait: Option<Duration>) -> Self {
        let retry_after = wait.map(|wait| wait.as_millis().div_ceil(1000).max(1).to_string());
        Self { retry_after, ..Self::new(429, "rate-limited", "Too many requests") }
    }

    /// The problem document of an ordered status.
    pub(super) fn of_status(status: u16, retry_after: Option<String>) -> Self {
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Ordered");
        Self { retry_after, ..Self::new(status, "ordered-fault", title) }
    }

    fn body(&self) -> Value {
        let kind = if self.kind.contains(':') {
            self.kind.clone()
        } else {
            format!("https://api.purse.eu/problems/{}", self.kind)
        };
        let mut body = json!({ "type": kind, "title": self.title, "status": self.status });
        if !self.detail.is_empty() {
            body["detail"] = Value::from(self.detail.as_str());
        }
        if !self.errors.is_empty() {
            let errors = self.errors.iter().map(|(pointer, detail)| json!({ "detail": detail, "pointer": pointer }));
            body["errors"] = errors.collect();
        }
        body
    }

    pub(super) fn into_reply(self) -> Reply {
        Reply {
            status: self.status,
            content_type: "application/problem+json",
            body: Bytes::from(self.body().to_string()),
            retry_after: self.retry_after,
            token: self.token,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    pub(super) retry_after: Option<String>,
    pub(super) token: bool,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, Bytes::from(body.to_string()))
    }

    pub(super) fn raw(status: u16, body: Bytes) -> Self {
        Self { status, content_type: "application/json", body, retry_after: None, token: false }
    }

    pub(super) fn no_content() -> Self {
        Self::raw(204, Bytes::new())
    }

    /// The answer that a fault orders.
    pub(super) fn ordered(status: u16, retry_after: Option<String>, body: Option<&Value>) -> Self {
        match body {
            None if (200..300).contains(&status) => Self::raw(status, Bytes::new()),
            None => Problem::of_status(status, retry_after).into_reply(),
            Some(body) => Self { retry_after, ..Self::json(status, body) },
        }
    }

    /// The same answer with a body that is not JSON.
    pub(super) fn garbled(self) -> Self {
        let body = Bytes::from_static(b"<html><body>It works!</body></html>");
        Self { status: with_body(self.status), content_type: "text/html", body, ..self }
    }

    /// The same answer, breaking off in the middle of its body.
    pub(super) fn truncated(self) -> Response {
        let half = self.body.slice(..self.body.len() / 2);
        let announced = self.body.len().max(64);
        let broken = futures::stream::once(async { Ok(half) }).chain(futures::stream::once(async {
            // The pause lets the first half be sent.
            tokio::task::yield_now().await;
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }));
        let (status, content_type) = (with_body(self.status), self.content_type);
        // Only the body is cut off: the head arrives.
        let mut response = self.into_response();
        *response.body_mut() = Body::from_stream(broken);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(announced));
        response
    }
}

/// Replaces 204 by 200, because a 204 has no body to break.
const fn with_body(status: u16) -> u16 {
    if status == 204 { 200 } else { status }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if !self.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        if let Some(value) = self.retry_after.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(header::RETRY_AFTER, value);
        }
        if self.token {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        response
    }
}
