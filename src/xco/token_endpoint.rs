//! One exchange with the token endpoint (`OAuth2` `client_credentials`), repeated with exponential backoff.
//!
//! The waiting call bounds the wait, which is in memory. The delays between a job's attempts are computed elsewhere, because they
//! must survive the process.

use super::{coding::BodyFault, number, pool::Http, retry_after, setup::Credentials, transport};
use crate::{
    config::TokenAuth,
    contract::{JsonText, look_into},
    net::tls_fault,
};
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Maximum number of bytes read of a token answer.
const MAX_TOKEN_ANSWER_BYTES: usize = 64 * 1024;
/// Longest token lifetime that is believed.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// A token as the endpoint granted it.
pub(super) struct Grant {
    /// The token.
    pub(super) token: SecretString,
    /// Time of the request for the token. Its lifetime counts from here.
    pub(super) asked: Instant,
    /// The token's lifetime, if the endpoint reported one.
    pub(super) life: Option<Duration>,
}

/// The token endpoint gave no token. Of its answer this holds only the status and a known error code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenFault {
    /// Whether the endpoint refused the client (400, 401, 403). Repeating at once is useless.
    pub(super) refused: bool,
    /// Status of the answer, if there was one.
    pub(super) http_status: Option<u16>,
    /// Set if the endpoint asks for time: it answered 429, or 503 with `Retry-After`.
    pub(super) closed: Option<EndpointClosed>,
    /// One sentence without anything secret.
    pub(super) message: String,
    /// What an operator can do, if the message ends with that.
    pub(super) remedy: Option<&'static str>,
}

/// How long a token endpoint does not want to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointClosed {
    /// For the time in its `Retry-After` (bounded).
    For(Duration),
    /// It gave no time.
    Unsaid,
}

/// Error codes of RFC 6749 §5.2. Any other text in `error` is not repeated in messages: it could be an echo of a
/// secret.
const KNOWN_ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// Requests a token until `deadline`, with growing, jittered delays between failures. A refusal, or an endpoint that
/// asks for time, ends it at once.
pub(super) async fn fetch(
    http: &Http,
    credentials: &Credentials,
    deadline: Instant,
    now: Option<Timestamp>,
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
            fetch_once(http, credentials, budget / 2, now).await.map_err(|fault| {
                if fault.refused || fault.closed.is_some() {
                    backoff::Error::permanent(fault)
                } else {
                    backoff::Error::transient(fault)
                }
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
    TokenFault { refused: false, http_status, closed: None, message: message.into(), remedy: None }
}

/// Makes one exchange. `timeout` bounds it, so that after one that hangs there is time for another.
async fn fetch_once(
    http: &Http,
    credentials: &Credentials,
    timeout: Duration,
    now: Option<Timestamp>,
) -> Result<Grant, TokenFault> {
    let asked = Instant::now();
    let (client, version) = http.client();
    let mut form = vec![("grant_type", "client_credentials")];
    if !credentials.scope.is_empty() {
        form.push(("scope", &credentials.scope));
    }
    let mut request =
        client.post(credentials.token_url.clone()).header(ACCEPT, HeaderValue::from_static("application/json"));
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
        // The next attempt uses the other version.
        if !http.wants_another_version(version, &error) {
            http.failed(&error, "xco.token_url");
        }
        if let Some(tls) = tls_fault(&error) {
            let message = format!("the token endpoint (xco.token_url) cannot be reached: {tls}");
            return TokenFault { remedy: Some(tls.remedy), ..fault(None, message) };
        }
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
        let fault = refusal(status, body.as_deref().unwrap_or_default());
        return Err(TokenFault { closed: closed(status, response.headers(), now), ..fault });
    }
    let body = body.map_err(|why| {
        let why = match why {
            BodyFault::TooLong => "is too long".to_owned(),
            BodyFault::Broken => "broke off".to_owned(),
            BodyFault::Coding(name) => format!("is packed as {name}, which was not asked for"),
        };
        fault(Some(status), format!("the token endpoint's answer {why}"))
    })?;
    grant(&body, asked).map_err(|why| fault(Some(status), format!("the token endpoint's answer {why}")))
}

fn closed(status: u16, headers: &HeaderMap, now: Option<Timestamp>) -> Option<EndpointClosed> {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = header(RETRY_AFTER)
        .and_then(|value| retry_after::parse(value, header(DATE), now.unwrap_or_else(Timestamp::now)))
        .map(EndpointClosed::For);
    match status {
        429 => Some(asked.unwrap_or(EndpointClosed::Unsaid)),
        503 => asked,
        _ => None,
    }
}

fn refusal(status: u16, body: &[u8]) -> TokenFault {
    let answer = std::str::from_utf8(body).ok().and_then(look_into).unwrap_or_default();
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
    TokenFault { refused, http_status: Some(status), closed: None, message, remedy: None }
}

/// Reads the token in a 200's body. `asked` is the time just before the request, so that the lifetime is never
/// overestimated.
fn grant(body: &[u8], asked: Instant) -> Result<Grant, &'static str> {
    let answer = JsonText::parse(body).map_err(|_| "is no JSON")?.value();
    let token = answer.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = token.ok_or("has no access_token")?;
    if HeaderValue::from_str(token).is_err() {
        return Err("has an access_token that cannot be sent as a header");
    }
    bearer(answer.get("token_type"))?;
    Ok(Grant { token: SecretString::from(token), asked, life: life(answer.get("expires_in")) })
}

/// Whether a token of this `token_type` can be sent as `Bearer`.
///
/// RFC 6749 §5.1 demands a type, in any case. Servers leave it out, send `null`, or write their library's name for it.
/// All of these mean Bearer: the XCO API documents nothing else, and would refuse a token of another scheme with a 401.
/// Another scheme needs more than a header (a proof, a signature): it is refused, by name.
fn bearer(token_type: Option<&Value>) -> Result<(), &'static str> {
    let name = match token_type {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::String(name)) => name.as_str(),
        Some(_) => return Err("has a token_type that is no text"),
    };
    let letters: String =
        name.chars().filter(|c| !" _-".contains(*c)).map(|c| c.to_ascii_lowercase()).take(32).collect();
    match letters.as_str() {
        "" | "bearer" | "bearertoken" => Ok(()),
        "mac" => Err("has the token_type mac, and Bearer is all that can be sent"),
        "dpop" => Err("has the token_type DPoP, and Bearer is all that can be sent"),
        "pop" => Err("has the token_type PoP, and Bearer is all that can be sent"),
        "na" => Err("has the token_type N_A, and Bearer is all that can be sent"),
        // Any other name is not repeated in the message: it could be an echo of a secret.
        _ => Err("has a token_type other than Bearer"),
    }
}

/// Reads `expires_in`, in seconds, as a number or (as some servers write it) as a string. `None` if it is unreadable.
fn life(expires_in: Option<&Value>) -> Option<Duration> {
    let seconds = number::finite(expires_in?)?;
    // With a lifetime of zero, every call would fetch its own token.
    let most = MAX_LIFE.as_secs_f64();
    Some(Duration::from_secs_f64(seconds.floor().clamp(1.0, most)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::{super::token::DEFAULT_LIFE, *};
    use serde_json::json;

    fn read(answer: &Value) -> Result<Duration, &'static str> {
        read_text(&answer.to_string()).map(|life| life.unwrap_or(DEFAULT_LIFE))
    }

    fn read_text(answer: &str) -> Result<Option<Duration>, &'static str> {
        grant(answer.as_bytes(), Instant::now()).map(|grant| grant.life)
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
    fn a_life_is_read_in_any_spelling_or_is_unknown() {
        for (expires_in, seconds) in [
            ("2", Some(2)),
            ("2.0", Some(2)),
            ("2.9", Some(2)),
            ("2e0", Some(2)),
            ("\"2\"", Some(2)),
            ("\"2.0\"", Some(2)),
            ("\" 2 \"", Some(2)),
            ("0.4", Some(1)),
            ("-2.0", Some(1)),
            ("\"-2\"", Some(1)),
            ("1e300", Some(86_400)),
            ("123456789012345678901234567890", Some(86_400)),
            ("1e400", None),
            ("\"\"", None),
            ("\"2 s\"", None),
            ("\"inf\"", None),
            ("\"NaN\"", None),
            ("null", None),
            ("true", None),
            ("[2]", None),
            ("{}", None),
        ] {
            let life = read_text(&format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#)).unwrap();
            assert_eq!(life.map(|life| life.as_secs()), seconds, "{expires_in}");
        }
        assert_eq!(read_text(r#"{"access_token":"t"}"#), Ok(None));
    }

    #[test]
    fn token_types() {
        for name in ["null", "\"\"", "\"Bearer\"", "\"BEARER\"", "\"BearerToken\"", "\"bearer_token\"", "\" bearer \""]
        {
            assert!(read_text(&format!(r#"{{"access_token":"t","token_type":{name}}}"#)).is_ok(), "{name}");
        }
        for (name, said) in [("mac", "mac"), ("DPoP", "DPoP"), ("pop", "PoP"), ("N_A", "N_A"), ("Bear", "other than")] {
            let refused = read(&json!({"access_token": "t", "token_type": name})).unwrap_err();
            assert!(refused.contains(said), "{name}: {refused}");
        }
        let echo = read(&json!({"access_token": "t", "token_type": "s3cret"})).unwrap_err();
        assert!(!echo.contains("s3cret"));
        assert!(read(&json!({"access_token": "t", "token_type": 7})).is_err());
    }

    #[test]
    fn how_long_an_endpoint_wants_to_be_left_alone() {
        let headers = |value: Option<&str>| {
            value.map(|value| (RETRY_AFTER, HeaderValue::from_str(value).unwrap())).into_iter().collect::<HeaderMap>()
        };
        let minute = Some(EndpointClosed::For(Duration::from_secs(60)));
        for (status, value, expected) in [
            (429, Some("60"), minute),
            (503, Some("60"), minute),
            (429, None, Some(EndpointClosed::Unsaid)),
            (429, Some("soon"), Some(EndpointClosed::Unsaid)),
            (429, Some("9999999"), Some(EndpointClosed::For(Duration::from_secs(86_400)))),
            (503, None, None),
            (500, Some("60"), None),
            (401, Some("60"), None),
        ] {
            assert_eq!(closed(status, &headers(value), None), expected, "{status} {value:?}");
        }
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
