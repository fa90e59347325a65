//! Errors of the HTTP interface: `application/problem+json` (RFC 9457).

use crate::{contract::Fault, operations};
use axum::{
    body::Body,
    extract::rejection::{JsonRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

/// Kind of a problem. Its name is the last part of the problem's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    BadRequest,
    InvalidJson,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Ended,
    PlanOutdated,
    Conflict,
    CursorTrimmed,
    TooLarge,
    UnsupportedType,
    InvalidJob,
    IdConflict,
    RateLimited,
    Internal,
    QueueFull,
    RedisUnavailable,
    Draining,
    TimedOut,
}

impl ProblemKind {
    const fn facts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BadRequest => ("bad-request", StatusCode::BAD_REQUEST, "The request is not valid"),
            Self::InvalidJson => ("invalid-json", StatusCode::BAD_REQUEST, "The body is not valid JSON"),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "A valid token is required"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "The token does not allow this"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "Not found"),
            Self::MethodNotAllowed => ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Self::Ended => ("ended", StatusCode::CONFLICT, "The job has ended"),
            Self::PlanOutdated => ("plan-outdated", StatusCode::CONFLICT, "The plan is out of date"),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "The request conflicts with the present state"),
            Self::CursorTrimmed => ("cursor-trimmed", StatusCode::GONE, "The cursor is no longer kept"),
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The request is too large"),
            Self::UnsupportedType => {
                ("unsupported-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The content type is not supported")
            }
            Self::InvalidJob => ("invalid-job", StatusCode::UNPROCESSABLE_ENTITY, "The job is not valid"),
            Self::IdConflict => ("id-conflict", StatusCode::UNPROCESSABLE_ENTITY, "The job has another id"),
            Self::RateLimited => ("rate-limited", StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
            Self::QueueFull => ("queue-full", StatusCode::SERVICE_UNAVAILABLE, "The lane is full"),
            Self::RedisUnavailable => ("redis-unavailable", StatusCode::SERVICE_UNAVAILABLE, "Redis cannot be used"),
            Self::Draining => ("draining", StatusCode::SERVICE_UNAVAILABLE, "The gateway is stopping"),
            Self::TimedOut => ("timed-out", StatusCode::REQUEST_TIMEOUT, "The request took too long"),
        }
    }
}

/// An error for the client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: ProblemKind,
    detail: Option<String>,
    faults: Vec<Fault>,
    retry_after_s: Option<u64>,
    members: Map<String, Value>,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind) -> Self {
        Self { kind, detail: None, faults: Vec::new(), retry_after_s: None, members: Map::new() }
    }

    /// One sentence about this case. It must hold no personal data.
    #[must_use]
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Faults of single members, each with its JSON Pointer.
    #[must_use]
    pub(crate) fn faults(self, faults: Vec<Fault>) -> Self {
        Self { faults, ..self }
    }

    /// When the client may try again, in seconds.
    #[must_use]
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// One more member of the document.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Redis could not be used.
    pub(crate) fn is_of_redis(&self) -> bool {
        self.kind == ProblemKind::RedisUnavailable
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.kind.facts().1
    }

    /// The document. A result line of a bulk request holds it without a request id.
    pub(crate) fn document(&self, request_id: Option<&str>) -> Value {
        let (name, status, title) = self.kind.facts();
        let mut document = Map::new();
        document.insert("type".to_owned(), format!("urn:xco-worker:problem:{name}").into());
        document.insert("title".to_owned(), title.into());
        document.insert("status".to_owned(), status.as_u16().into());
        if let Some(detail) = &self.detail {
            document.insert("detail".to_owned(), detail.as_str().into());
        }
        if let Some(request_id) = request_id {
            document.insert("request_id".to_owned(), request_id.into());
        }
        document.extend(self.members.clone());
        if !self.faults.is_empty() {
            let faults = self.faults.iter().map(|fault| json!({"pointer": fault.pointer, "detail": fault.detail}));
            document.insert("errors".to_owned(), faults.collect());
        }
        document.into()
    }

    /// The answer, with the request's id.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let mut response = Response::new(Body::from(self.document(Some(request_id)).to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == ProblemKind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The outermost layer renders it, because it knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<operations::Error> for Problem {
    fn from(error: operations::Error) -> Self {
        use operations::Error;
        match &error {
            Error::Redis { place, reason, .. } => {
                // The place is for operators, not for clients.
                tracing::warn!(place, reason, "Redis cannot be used");
                Self::new(ProblemKind::RedisUnavailable).retry_after(1)
            }
            Error::UnknownDeadLetter | Error::NotPaused(_) => {
                Self::new(ProblemKind::NotFound).detail(error.to_string())
            }
            Error::NothingFits(_) | Error::NoDeadLetter | Error::SeveralDeadLetters | Error::TooManyRules => {
                Self::new(ProblemKind::Conflict).detail(error.to_string())
            }
            Error::Completions(hub) => hub.into(),
            Error::CannotWait => Self::new(ProblemKind::BadRequest).detail(error.to_string()),
            other => {
                tracing::error!(error = %other, "an operation failed");
                Self::new(ProblemKind::Internal)
            }
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::MissingJsonContentType(_) => {
                Self::new(ProblemKind::UnsupportedType).detail("send `Content-Type: application/json`")
            }
            JsonRejection::JsonDataError(error) => Self::new(ProblemKind::BadRequest).detail(cause(&error)),
            JsonRejection::BytesRejection(bytes) if bytes.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(ProblemKind::TooLarge)
            }
            _ => Self::new(ProblemKind::InvalidJson),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(ProblemKind::BadRequest).detail(cause(&rejection))
    }
}

/// The innermost error, which names the member. It may quote at most a short value of the request itself.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().filter(|c| !c.is_control()).take(200).collect()
}
