//! Answers that a browser saves as files.

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use futures::Stream;
use std::io;

/// An answer that a browser saves under this name. The body may come piece by piece.
pub fn file(
    kind: &'static str,
    name: &str,
    body: impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static,
) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, Body::from_stream(body)).into_response()
}
