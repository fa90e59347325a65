//! Who makes a request, and what they may do.

use super::tokens::Token;
use crate::{
    config::GatewayRole,
    contract::is_unprintable,
    operations::{Actor, MerchantScope},
};
use std::{fmt, net::SocketAddr, sync::Arc};

/// Maximum number of characters of a person's name.
const MAX_PERSON: usize = 64;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// It has no token, or one that is not known.
    #[error("a valid token is required")]
    NoToken,
    /// Its token has not this role.
    #[error("the role {} is required", .0.as_str())]
    Role(GatewayRole),
    /// The request is about the whole queue, and its token is limited to merchants.
    #[error("not for a token that is limited to merchants")]
    QueueWide,
    /// No tokens are configured, and the request may come from another machine or from a page of another site.
    #[error("without gateway.tokens only programs of this machine may use the gateway, by the name localhost")]
    OtherMachine,
    /// The name of the person is not valid.
    #[error("the person's name must be 1 to {MAX_PERSON} printable characters")]
    PersonName,
}

/// Who makes a request.
#[derive(Clone)]
pub struct Principal {
    /// The token of the request.
    pub token: Arc<Token>,
    /// The person that `X-Operator` or the console's login names.
    pub person: Option<String>,
    /// Where the person acts from, for the audit.
    pub from: String,
}

/// Without the token's digest.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("token", &self.token.name).finish_non_exhaustive()
    }
}

impl Principal {
    /// Whether it has this role.
    pub fn has(&self, role: GatewayRole) -> bool {
        self.token.roles.contains(&role)
    }

    /// Refuses a request whose token has not this role.
    pub fn require(&self, role: GatewayRole) -> Result<(), AccessError> {
        if self.has(role) {
            return Ok(());
        }
        Err(AccessError::Role(role))
    }

    /// Refuses a token that is limited to merchants, because the route is about the whole queue.
    pub fn require_all_merchants(&self) -> Result<(), AccessError> {
        if self.token.merchants.is_all() {
            return Ok(());
        }
        Err(AccessError::QueueWide)
    }

    /// The merchants whose jobs it may touch and see.
    pub fn merchants(&self) -> &MerchantScope {
        &self.token.merchants
    }

    /// Whether it may see whole completions: it sent the data itself (rule R7).
    pub fn sees_personal_data(&self) -> bool {
        self.has(GatewayRole::Enqueue)
    }

    /// The actor for the audit: `person (token)`.
    pub fn actor(&self) -> Actor {
        match &self.person {
            Some(person) => Actor::new(&format!("{person} ({})", self.token.name), &self.from),
            None => Actor::new(&self.token.name, &self.from),
        }
    }
}

/// Where somebody acts from: `gateway 192.0.2.7`.
pub fn from(face: &str, peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| face.to_owned(), |peer| format!("{face} {}", peer.ip()))
}

/// Checks the name of a person.
pub fn person_name(text: &str) -> Result<String, AccessError> {
    let is_name = !text.trim().is_empty()
        && text.chars().count() <= MAX_PERSON
        && !text.chars().any(|c| c.is_control() || is_unprintable(c));
    if is_name {
        return Ok(text.trim().to_owned());
    }
    Err(AccessError::PersonName)
}
