//! Parameters of requests, and their limits.

use crate::gateway::problem::{Problem, ProblemKind};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::QueryRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use std::{str::FromStr, time::Duration};
use tokio::time::timeout;

/// Maximum number of bytes of a body that is not a job.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Time for reading a whole body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The query of a request. A faulty one is a problem that names the parameter.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection: QueryRejection| rejection.into())
    }
}

/// The JSON body of a request. A faulty one is a problem.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let request =
            Request::from_parts(parts, axum::body::Body::new(http_body_util::Limited::new(body, MAX_BODY_BYTES)));
        match timeout(BODY_TIMEOUT, Json::<T>::from_request(request, state)).await {
            Ok(read) => read.map(|Json(body)| Self(body)).map_err(Problem::from),
            Err(_) => Err(Problem::new(ProblemKind::TimedOut)),
        }
    }
}

/// Parses one parameter. The problem names it and says what is wanted.
pub(super) fn parse<T: FromStr>(name: &str, value: &str, wanted: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| faulty(name, wanted))
}

/// A parameter that is not valid.
pub(super) fn faulty(name: &str, wanted: &str) -> Problem {
    Problem::new(ProblemKind::BadRequest).detail(format!("{name}: {wanted}"))
}
