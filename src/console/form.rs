//! Forms that visitors send. Each checks where it comes from, and the secret that our own forms carry.

use super::{error::ConsoleError, fields::Fields, origin, state::ConsoleState, visitor::Visitor};
use crate::config::GatewayRole;
use axum::{
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Request},
};
use std::{sync::Arc, time::Duration};
use subtle::ConstantTimeEq;
use tokio::time::timeout;

/// Maximum number of bytes of a form.
const MAX_BYTES: usize = 256 * 1024;
/// Time for reading a form.
const WITHIN: Duration = Duration::from_secs(10);
/// From this number of jobs or letters on, it must be typed before they are acted on.
pub(super) const TYPED_FROM: u64 = 100;
/// Whether a form's visitor typed this number to confirm it. It may be grouped.
pub(super) fn is_typed(fields: &Fields, number: u64) -> bool {
    fields.get("typed").is_some_and(|typed| typed.replace([',', '.', ' '], "") == number.to_string())
}

/// The field with the secret of the session's forms.
pub(super) const CSRF_FIELD: &str = "csrf";

/// A form of a page that needs no login.
pub(super) struct OpenForm(pub(super) Fields);

impl FromRequest<Arc<ConsoleState>> for OpenForm {
    type Rejection = ConsoleError;

    async fn from_request(request: Request, state: &Arc<ConsoleState>) -> Result<Self, ConsoleError> {
        if !origin::is_ours(request.headers(), state.config.gateway.public_url.as_deref()) {
            return Err(ConsoleError::ForeignForm);
        }
        let body = timeout(WITHIN, to_bytes(request.into_body(), MAX_BYTES)).await;
        let bytes = body.map_err(|_| ConsoleError::UnreadableForm)?.map_err(|_| ConsoleError::UnreadableForm)?;
        Ok(Self(Fields::parse(&bytes)))
    }
}

/// A form of a visitor, for what every visitor may do.
pub(super) struct VisitorForm {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

impl FromRequest<Arc<ConsoleState>> for VisitorForm {
    type Rejection = ConsoleError;

    async fn from_request(request: Request, state: &Arc<ConsoleState>) -> Result<Self, ConsoleError> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, state).await?;
        let OpenForm(fields) = OpenForm::from_request(Request::from_parts(parts, body), state).await?;
        let sent = fields.get(CSRF_FIELD).unwrap_or_default();
        if !bool::from(sent.as_bytes().ct_eq(visitor.csrf.as_bytes())) {
            return Err(ConsoleError::OldForm);
        }
        Ok(Self { visitor, fields })
    }
}

/// A form that acts on the queue: the visitor must have the role `operate`.
pub(super) struct OperatorForm {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
}

impl FromRequest<Arc<ConsoleState>> for OperatorForm {
    type Rejection = ConsoleError;

    async fn from_request(request: Request, state: &Arc<ConsoleState>) -> Result<Self, ConsoleError> {
        let VisitorForm { visitor, fields } = VisitorForm::from_request(request, state).await?;
        visitor.principal.require(GatewayRole::Operate)?;
        Ok(Self { visitor, fields })
    }
}
