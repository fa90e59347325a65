//! Bearer tokens of the configuration.

use super::rate::TokenRate;
use crate::{
    config::{GatewayRole, GatewayToken},
    contract::{MerchantId, MerchantScope},
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// A token of the configuration, with what it has used of its rates.
#[derive(Debug)]
pub struct Token {
    pub(super) name: String,
    sha256: [u8; 32],
    pub(super) roles: Vec<GatewayRole>,
    pub(super) merchants: MerchantScope,
    pub(super) rate: TokenRate,
}

impl Token {
    /// Name of the token's user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has used of its rates.
    pub const fn rate(&self) -> &TokenRate {
        &self.rate
    }

    /// SHA-256 of the token: a session remembers it, and ends when the configuration has another.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.sha256
    }

    fn new(token: &GatewayToken, default: Option<&MerchantId>) -> Self {
        let all = token.merchants.is_empty();
        Self {
            name: token.name.clone(),
            sha256: token.sha256,
            roles: token.roles.clone(),
            merchants: if all { MerchantScope::all() } else { MerchantScope::only(&token.merchants, default) },
            rate: TokenRate::new(),
        }
    }

    /// The rights of every request, if the configuration has no tokens.
    fn of_this_machine() -> Self {
        Self {
            name: "this machine".to_owned(),
            sha256: [0; 32],
            roles: GatewayRole::ALL.to_vec(),
            merchants: MerchantScope::all(),
            rate: TokenRate::new(),
        }
    }
}

/// All tokens.
#[derive(Debug)]
pub struct Tokens {
    known: Vec<Arc<Token>>,
    /// The rights of requests without a token; `None` if tokens are configured.
    open: Option<Arc<Token>>,
}

impl Tokens {
    /// The tokens of the configuration. `default` is `xco.merchant_id`.
    pub fn new(configured: &[GatewayToken], default: Option<&MerchantId>) -> Self {
        let open = configured.is_empty().then(|| Arc::new(Token::of_this_machine()));
        Self { known: configured.iter().map(|token| Arc::new(Token::new(token, default))).collect(), open }
    }

    /// Finds a token by its secret. The time that it takes does not depend on the secret.
    pub fn find(&self, secret: &str) -> Option<Arc<Token>> {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = None;
        for token in &self.known {
            if bool::from(token.sha256.ct_eq(&digest)) {
                found = Some(Arc::clone(token));
            }
        }
        found
    }

    /// The rights of requests without a token; `None` if tokens are configured.
    pub fn open(&self) -> Option<Arc<Token>> {
        self.open.clone()
    }

    /// Finds a token by its digest, which a session remembers.
    pub fn with_digest(&self, digest: &[u8; 32]) -> Option<Arc<Token>> {
        self.open.iter().chain(&self.known).find(|token| bool::from(token.sha256.ct_eq(digest))).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_found_by_its_secret_alone() {
        let token = GatewayToken {
            name: "shop".to_owned(),
            sha256: Sha256::digest(b"secret").into(),
            roles: vec![GatewayRole::Read],
            merchants: Vec::new(),
        };
        let tokens = Tokens::new(&[token], None);
        assert_eq!(tokens.find("secret").unwrap().name(), "shop");
        assert!(tokens.find("").is_none() && tokens.find("secret ").is_none() && tokens.open().is_none());
        assert!(Tokens::new(&[], None).open().is_some());
    }
}
