//! Content types: of a body, and of the answer that a client accepts.

use axum::http::{HeaderMap, header};

/// A stream of JSON values, one a line.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// A table, one row a line.
pub(super) const CSV: &str = "text/csv; charset=utf-8";
/// Server-Sent Events.
pub(super) const EVENTS: &str = "text/event-stream";

/// The content type of a body, in lower case and without parameters; empty if the request names none.
pub(super) fn of_body(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether the client names `kind` among the content types that it accepts.
pub(super) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains(kind))
}
