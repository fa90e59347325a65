//! Who makes a request to the API: its bearer token and role.

use super::{
    problem::{Problem, ProblemKind},
    state::GatewayState,
};
use crate::{
    access::{AccessError, Exceeded, Principal, from, only_this_machine, person_name},
    config::GatewayRole,
    net::{ConnectionHandle, PeerAddress},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use std::{
    marker::PhantomData,
    sync::{Arc, OnceLock},
};

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let kind = match error {
            AccessError::NoToken => return Self::new(ProblemKind::Unauthorized),
            AccessError::Role(_) | AccessError::QueueWide | AccessError::OtherMachine => ProblemKind::Forbidden,
            AccessError::PersonName => ProblemKind::BadRequest,
        };
        Self::new(kind).detail(error.to_string())
    }
}

impl From<Exceeded> for Problem {
    fn from(exceeded: Exceeded) -> Self {
        Self::new(ProblemKind::RateLimited).detail(exceeded.to_string()).retry_after(exceeded.retry_after_s)
    }
}

/// Finds out who makes a request.
pub(crate) fn principal_of(state: &GatewayState, parts: &Parts) -> Result<Principal, AccessError> {
    let token = match bearer(&parts.headers) {
        Some(secret) => state.tokens.find(secret),
        None => match state.tokens.open() {
            Some(open) => {
                only_this_machine(&parts.headers, &parts.uri)?;
                Some(open)
            }
            None => None,
        },
    };
    let token = token.ok_or(AccessError::NoToken)?;
    if let Some(connection) = parts.extensions.get::<ConnectionHandle>() {
        connection.trust();
    }
    let person = parts
        .headers
        .get("x-operator")
        .map(|value| person_name(std::str::from_utf8(value.as_bytes()).unwrap_or_default()));
    let peer = parts.extensions.get::<PeerAddress>().map(|peer| peer.0);
    Ok(Principal { token, person: person.transpose()?, from: from("gateway", peer) })
}

/// The secret of `Authorization: Bearer …`. An empty text if the header is there and has another form.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, secret) = value.split_once(' ').unwrap_or((value, ""));
    Some(if scheme.eq_ignore_ascii_case("bearer") { secret.trim() } else { "" })
}

/// Number of requests that the token of a request may still make at once. The outermost layer puts it into a header.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestsLeft(pub(super) Arc<OnceLock<u32>>);

/// A role, as a type.
pub(crate) trait Role {
    const ROLE: GatewayRole;
}

/// The role `enqueue`.
pub(crate) struct Enqueue;
/// The role `read`.
pub(crate) struct Read;
/// The role `operate`.
pub(crate) struct Operate;

impl Role for Enqueue {
    const ROLE: GatewayRole = GatewayRole::Enqueue;
}
impl Role for Read {
    const ROLE: GatewayRole = GatewayRole::Read;
}
impl Role for Operate {
    const ROLE: GatewayRole = GatewayRole::Operate;
}

/// The principal of a request that has the role `R`. A handler without it is open to everybody.
pub(crate) struct Access<R>(pub(crate) Principal, pub(crate) PhantomData<R>);

impl<R: Role> FromRequestParts<Arc<GatewayState>> for Access<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<GatewayState>) -> Result<Self, Problem> {
        let principal = principal_of(state, parts)?;
        principal.require(R::ROLE)?;
        let left = principal.token.rate().request();
        if let Some(shown) = parts.extensions.get::<RequestsLeft>() {
            let _ = shown.0.set(*left.as_ref().unwrap_or(&0));
        }
        left?;
        Ok(Self(principal, PhantomData))
    }
}
