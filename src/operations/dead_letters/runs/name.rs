//! What a run is called.

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The name of a run: `r-`, then at most 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunName(String);

const PREFIX: &str = "r-";
const MAX_LENGTH: usize = 64;

impl RunName {
    /// A name that no other run has.
    pub fn random() -> Self {
        Self(format!("{PREFIX}{:012x}", rand::random::<u64>() >> 16))
    }

    /// The name that belongs to an `Idempotency-Key`: the key itself, or a digest of one that is no name.
    pub fn from_key(key: &str) -> Self {
        let is_name = !key.is_empty() && key.len() <= MAX_LENGTH && key.bytes().all(is_allowed);
        if is_name { Self(format!("{PREFIX}{key}")) } else { Self(format!("{PREFIX}{}", &digest(key)[..32])) }
    }

    /// The name of the run that a plan is started as, unless the request names another.
    pub(super) fn of_plan(plan: &str) -> Self {
        Self(format!("{PREFIX}{}", &digest(plan)[..16]))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))
}

const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl FromStr for RunName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(PREFIX).unwrap_or_default();
        let is_name = !rest.is_empty() && rest.len() <= MAX_LENGTH && rest.bytes().all(is_allowed);
        if is_name { Ok(Self(text.to_owned())) } else { Err("the name of a run begins with r-".to_owned()) }
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RunName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_key_makes_a_name_that_is_read_again() {
        assert_eq!(RunName::from_key("night-7").as_str(), "r-night-7");
        let (long, odd) = (RunName::from_key(&"x".repeat(200)), RunName::from_key("a b/ü"));
        for name in [RunName::random(), RunName::from_key(""), long, odd, RunName::of_plan("p1.x")] {
            assert_eq!(name.as_str().parse::<RunName>().unwrap(), name);
        }
        for wrong in ["", "r-", "x-a", "r-a b", "r-a/b", &format!("r-{}", "x".repeat(65))] {
            assert!(wrong.parse::<RunName>().is_err(), "{wrong}");
        }
    }
}
