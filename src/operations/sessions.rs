//! Logins to the console. The browser keeps a secret of 32 random bytes; Redis keeps its SHA-256, so that a copy of Redis's
//! data opens no session.

use super::{Backend, Error};
use crate::{contract::millis, queue::sessions};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, fmt::Write, time::Duration};

/// A session without a request for this time ends.
pub const IDLE: Duration = Duration::from_secs(8 * 3_600);
/// A session ends after this time in any case.
pub const LONGEST: Duration = Duration::from_secs(12 * 3_600);

/// The secret of a session, as its cookie has it: 64 hexadecimal digits. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(String);

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

impl SessionSecret {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(hex(&bytes))
    }

    /// Reads what a cookie has. `None` for any other form.
    pub fn parse(text: &str) -> Option<Self> {
        let is_one = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        is_one.then(|| Self(text.to_owned()))
    }

    /// The text for the cookie. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }
}

/// What is known of a login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// SHA-256 of the token. The session ends when the configuration has it no more.
    pub token_sha256: [u8; 32],
    /// The person, as they named themselves.
    pub person: String,
    /// The secret that every form of the session carries.
    pub csrf: String,
    /// When it began, in milliseconds on Redis's clock.
    pub began_ms: u64,
}

/// Without the secret of the forms.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("began_ms", &self.began_ms).finish_non_exhaustive()
    }
}

impl Session {
    /// Names the person and the token together.
    fn holder(&self) -> String {
        let digest = Sha256::new().chain_update(self.token_sha256).chain_update(self.person.as_bytes());
        hex(&digest.finalize())
    }
}

/// Begins a session of a person whose token has this SHA-256.
///
/// # Errors
/// [`Error::Redis`].
pub async fn begin(
    backend: &mut Backend<'_>,
    token_sha256: &[u8; 32],
    person: &str,
) -> Result<(SessionSecret, Session), Error> {
    let (keys, failed, secret) = (backend.common_keys(), backend.failed(), SessionSecret::random());
    let (_, now_ms) = sessions::load(&mut backend.link, &keys, &secret.hash()).await.map_err(&failed)?;
    let session = Session {
        token_sha256: *token_sha256,
        person: person.to_owned(),
        csrf: SessionSecret::random().0,
        began_ms: now_ms,
    };
    // Text and numbers: serialisation cannot fail.
    let text = serde_json::to_string(&session).unwrap_or_default();
    sessions::store(&mut backend.link, &keys, &secret.hash(), &text, IDLE).await.map_err(failed)?;
    Ok((secret, session))
}

/// The session with this secret. `None` if there is none or it has ended. It counts as a request.
///
/// # Errors
/// [`Error::Redis`].
pub async fn find(backend: &mut Backend<'_>, secret: &SessionSecret) -> Result<Option<Session>, Error> {
    let Some((session, left)) = load(backend, secret).await? else { return Ok(None) };
    let (keys, failed) = (backend.common_keys(), backend.failed());
    sessions::keep(&mut backend.link, &keys, &secret.hash(), IDLE.min(left)).await.map_err(failed)?;
    Ok(Some(session))
}

/// Whether the session goes on. It does not count as a request, so that an open page does not keep it.
///
/// # Errors
/// [`Error::Redis`].
pub async fn goes_on(backend: &mut Backend<'_>, secret: &SessionSecret) -> Result<bool, Error> {
    Ok(load(backend, secret).await?.is_some())
}

/// A session that has not ended, and how long it may still live.
async fn load(backend: &mut Backend<'_>, secret: &SessionSecret) -> Result<Option<(Session, Duration)>, Error> {
    let (keys, failed, hash) = (backend.common_keys(), backend.failed(), secret.hash());
    let (stored, now_ms) = sessions::load(&mut backend.link, &keys, &hash).await.map_err(&failed)?;
    let Some(session) = stored.and_then(|stored| serde_json::from_slice::<Session>(&stored).ok()) else {
        return Ok(None);
    };
    let left_ms = millis(LONGEST).saturating_sub(now_ms.saturating_sub(session.began_ms));
    let ended_ms = sessions::ended_before_ms(&mut backend.link, &keys, &session.holder()).await.map_err(&failed)?;
    if left_ms == 0 || session.began_ms <= ended_ms {
        sessions::delete(&mut backend.link, &keys, &hash).await.map_err(failed)?;
        return Ok(None);
    }
    Ok(Some((session, Duration::from_millis(left_ms))))
}

/// Ends a session.
///
/// # Errors
/// [`Error::Redis`].
pub async fn end(backend: &mut Backend<'_>, secret: &SessionSecret) -> Result<(), Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    sessions::delete(&mut backend.link, &keys, &secret.hash()).await.map_err(failed)
}

/// Ends all sessions of the same person with the same token.
///
/// # Errors
/// [`Error::Redis`].
pub async fn end_all(backend: &mut Backend<'_>, session: &Session) -> Result<(), Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    sessions::end_all(&mut backend.link, &keys, &session.holder(), LONGEST).await.map_err(failed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_64_digits_and_not_shown() {
        let secret = SessionSecret::random();
        assert_eq!(SessionSecret::parse(secret.expose()).as_ref(), Some(&secret));
        assert_eq!(format!("{secret:?}"), "SessionSecret(…)");
        for wrong in ["", "a", &"A".repeat(64), &"g".repeat(64), &"0".repeat(65)] {
            assert_eq!(SessionSecret::parse(wrong), None, "{wrong}");
        }
        assert_ne!(secret.hash(), secret.expose());
    }
}
