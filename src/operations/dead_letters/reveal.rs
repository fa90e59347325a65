//! Showing personal data: for what reason, and how often.

use crate::{
    contract::is_unprintable,
    operations::{Actor, Backend, Error},
    queue::{clock, runs},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::str::FromStr;

/// How often a person may be shown personal data within an hour, where a reason is given each time.
pub const MAX_REVEALS: u64 = 60;

/// Longest reason, in characters.
pub const MAX_REASON: usize = 200;

/// Whether personal data is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reveal {
    /// The shape of each value is shown, but no person.
    Masked,
    /// Everything is shown, and recorded: for the command line, where whoever can do this can read Redis as well.
    Recorded,
    /// Everything is shown, and recorded with the reason: at most [`MAX_REVEALS`] times an hour and person.
    ForReason(Reason),
}

impl Reveal {
    /// Whether personal data is shown.
    pub fn is_revealed(&self) -> bool {
        *self != Self::Masked
    }

    /// Records that personal data will be shown. `what` gets the reason.
    ///
    /// # Errors
    /// [`Error::TooManyReveals`], [`Error::Redis`].
    pub(super) async fn record(
        &self,
        backend: &mut Backend<'_>,
        actor: &Actor,
        action: &str,
        mut what: Value,
        count: u64,
    ) -> Result<Value, Error> {
        match self {
            Self::Masked => return Ok(what),
            Self::Recorded => {}
            Self::ForReason(reason) => {
                what["reason"] = reason.0.clone().into();
                let (keys, failed) = (backend.common_keys(), backend.failed());
                let now_ms = clock::now_ms(&mut backend.link).await.map_err(&failed)?;
                let person = format!("{:x}", Sha256::digest(actor.name().as_bytes()));
                let counted = runs::count_reveal(&mut backend.link, &keys, &person[..16], now_ms, MAX_REVEALS)
                    .await
                    .map_err(failed)?;
                if !counted {
                    return Err(Error::TooManyReveals);
                }
            }
        }
        backend.record(actor, action, &what, count).await?;
        Ok(what)
    }
}

/// Why personal data is shown: one line of at most 200 characters. It is recorded, so it should name no customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err("say why, without the name of the customer".to_owned());
        }
        if text.chars().count() > MAX_REASON {
            return Err(format!("a reason of at most {MAX_REASON} characters"));
        }
        if text.chars().any(is_unprintable) {
            return Err("a reason in one line, without control characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(" call 17 ".parse::<Reason>().unwrap(), Reason("call 17".to_owned()));
        assert!("ü".repeat(MAX_REASON).parse::<Reason>().is_ok());
        for wrong in ["", "  ", "a\nb", "a\u{202e}b", &"x".repeat(MAX_REASON + 1)] {
            assert!(wrong.parse::<Reason>().is_err(), "{wrong:?}");
        }
    }
}
