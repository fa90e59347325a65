//! One exchange with the token endpoint (`OAuth2` `client_credentials`), and its repetition with exponential backoff.
//!
//! The only user of the `backoff` crate: an in-process wait, bounded by the call that waits. Delays between a job's
//! attempts are computed elsewhere, since they must survive the process.

use super::{
    setup::Credentials,
    token::Grant,
    transport::{self, BodyFault},
};
use crate::config::TokenAuth;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use reqwest::header::{ACCEPT, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// The most that is read of a token answer.
const MAX_TOKEN_ANSWER_BYTES: usize = 64 * 1024;
/// A token whose life is not told lives this long.
const DEFAULT_LIFE: Duration = Duration::from_secs(300);
/// No life is believed beyond this.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// The token endpoint gave no token. Holds nothing that came from the endpoint but a status and a known error code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenFault {
    /// It answered, and refused the client: 400, 401, 403. Repeating at once is of no use.
    pub(super) refused: bool,
    /// The status, where it answered.
    pub(super) http_status: Option<u16>,
    /// One sentence.
    pub(super) message: String,
}

/// RFC 6749 §5.2. Anything else in `error` is not repeated: it could be an echo.
const KNOWN_ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// Asks for a token until `deadline`, with growing, jittered delays between failures; a refusal ends it at once.
pub(super) async fn fetch(
    http: &reqwest::Client,
    credentials: &Credentials,
    deadline: Instant,
) -> Result<Grant, TokenFault> {
    let budget = deadline.saturating_duration_since(Instant::now());
    let policy: ExponentialBackoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(FIRST_DELAY)
        .with_max_interval(LONGEST_DELAY)
        .with_max_elapsed_time(Some(budget))
        .build();
    let mut last = None;
    let attempts = backoff::future::retry_notify(
        policy,
        || async {
            fetch_once(http, credentials, budget / 2).await.map_err(|fault| {
                if fault.refused { backoff::Error::permanent(fault) } else { backoff::Error::transient(fault) }
            })
        },
        |fault, _| last = Some(fault),
    );
    match tokio::time::timeout_at(deadline, attempts).await {
        Ok(result) => result,
        Err(_) => Err(last.unwrap_or_else(|| fault(None, "the token endpoint (xco.token_url) did not answer in time"))),
    }
}

fn fault(http_status: Option<u16>, message: impl Into<String>) -> TokenFault {
    TokenFault { refused: false, http_status, message: message.into() }
}

/// `timeout` bounds one exchange, so that an endpoint which hangs once leaves time to ask again.
async fn fetch_once(http: &reqwest::Client, credentials: &Credentials, timeout: Duration) -> Result<Grant, TokenFault> {
    let asked = Instant::now();
    let mut form = vec![("grant_type", "client_credentials")];
    if !credentials.scope.is_empty() {
        form.push(("scope", &credentials.scope));
    }
    let mut request =
        http.post(credentials.token_url.clone()).header(ACCEPT, HeaderValue::from_static("application/json"));
    match credentials.auth {
        TokenAuth::Body => {
            form.push(("client_id", &credentials.client_id));
            form.push(("client_secret", credentials.client_secret.expose_secret()));
        }
        TokenAuth::Basic => {
            // RFC 6749 §2.3.1: both are form-encoded first.
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let secret = encode(credentials.client_secret.expose_secret());
            request = request.basic_auth(encode(&credentials.client_id), Some(secret));
        }
    }
    let mut response = request.timeout(timeout).form(&form).send().await.map_err(|error| {
        let why = if error.is_dns() {
            "its host name could not be resolved"
        } else if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke"
        };
        fault(None, format!("the token endpoint (xco.token_url) cannot be reached: {why}"))
    })?;
    let status = response.status().as_u16();
    let body = transport::read_body(&mut response, MAX_TOKEN_ANSWER_BYTES).await;
    if !response.status().is_success() {
        return Err(refusal(status, body.as_deref().unwrap_or_default()));
    }
    let body = body.map_err(|why| {
        let why = if why == BodyFault::TooLong { "is too long" } else { "broke off" };
        fault(Some(status), format!("the token endpoint's answer {why}"))
    })?;
    grant(&body, asked).map_err(|why| fault(Some(status), format!("the token endpoint's answer {why}")))
}

fn refusal(status: u16, body: &[u8]) -> TokenFault {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = answer.get("error").and_then(Value::as_str);
    let known = error.and_then(|error| KNOWN_ERRORS.into_iter().find(|known| *known == error));
    let refused = matches!(status, 400 | 401 | 403);
    let mut message = format!("the token endpoint answered {status}");
    if let Some(known) = known {
        message.push_str(": ");
        message.push_str(known);
    }
    if refused {
        message.push_str(" (check xco.client_id, xco.client_secret, xco.scope and xco.token_auth)");
    } else if !(500..600).contains(&status) && status != 429 {
        message.push_str(" (check xco.token_url)");
    }
    TokenFault { refused, http_status: Some(status), message }
}

/// The token in a 200's body. `asked` is when the request was about to be sent, so that the life is never overestimated.
fn grant(body: &[u8], asked: Instant) -> Result<Grant, &'static str> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "is no JSON")?;
    let token = answer.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = token.ok_or("has no access_token")?;
    if HeaderValue::from_str(token).is_err() {
        return Err("has an access_token that cannot be sent as a header");
    }
    let kind = answer.get("token_type");
    if kind.is_some_and(|kind| !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))) {
        return Err("has a token_type other than Bearer");
    }
    Ok(Grant { token: SecretString::from(token), asked, life: life(answer.get("expires_in")) })
}

/// `expires_in` in seconds, as a number or (as some servers write it) a string of digits.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_u64().or_else(|| number.as_i64().map(|_| 0)),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    // A life of nothing would make every call fetch a token for itself.
    seconds.map_or(DEFAULT_LIFE, |seconds| Duration::from_secs(seconds.max(1)).min(MAX_LIFE))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use serde_json::json;

    fn read(answer: &Value) -> Result<Duration, &'static str> {
        grant(answer.to_string().as_bytes(), Instant::now()).map(|grant| grant.life)
    }

    #[test]
    fn lives() {
        let of = |expires_in: Value| read(&json!({"access_token": "t", "expires_in": expires_in})).unwrap().as_secs();
        assert_eq!(of(json!(3600)), 3600);
        assert_eq!(of(json!("90")), 90);
        assert_eq!(of(json!(0)), 1);
        assert_eq!(of(json!(-5)), 1);
        assert_eq!(of(json!(null)), 300);
        assert_eq!(of(json!("soon")), 300);
        assert_eq!(of(json!(u64::MAX)), 86_400);
        assert_eq!(read(&json!({"access_token": "t", "token_type": "bearer"})).unwrap().as_secs(), 300);
    }

    #[test]
    fn answers_that_hold_no_token() {
        for answer in
            [json!({}), json!({"access_token": ""}), json!({"access_token": "a\nb"}), json!({"access_token": 1})]
        {
            assert!(read(&answer).is_err(), "{answer}");
        }
        assert!(read(&json!({"access_token": "t", "token_type": "mac"})).is_err());
        assert!(grant(b"<html>", Instant::now()).is_err());
    }

    #[test]
    fn a_refusal_repeats_known_words_only() {
        let known = refusal(401, br#"{"error":"invalid_client","error_description":"secret s3cret is wrong"}"#);
        assert!(known.refused && known.message.contains("invalid_client") && !known.message.contains("s3cret"));
        let echo = refusal(400, br#"{"error":"s3cret"}"#);
        assert!(echo.refused && !echo.message.contains("s3cret"));
        assert!(!refusal(503, b"").refused);
        assert!(!refusal(404, b"").refused);
    }
}
