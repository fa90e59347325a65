//! What a failed call means: the one place where an HTTP status becomes a verdict.

use super::{problem, route::Route};
use crate::contract::JsonText;
use serde_json::Value;
use std::time::Duration;

/// What a failed call means for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// 400, 422 and other 4xx: the request is wrong; never retried.
    Validation,
    /// 401 that a fresh token did not cure.
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409, or a problem `type` listed in `xco.already_exists_types` (for `CreateUser` the job then succeeded).
    Conflict,
    /// An error answer to verify that means a wrong code.
    InvalidCode,
    /// 429: not a failed attempt.
    RateLimited,
    /// Answered 500 or 503: failed, with no effect; retry.
    Upstream,
    /// Another 5xx, or a redirect: something between here and XCO answered; the effect is unknown.
    Gateway,
    /// No answer in time, or an answer that broke off or could not be understood, after the request was sent: unknown.
    Timeout,
    /// The connection broke after the request was (perhaps) sent: the effect is unknown.
    Broken,
    /// The request was never sent: no connection, no token; no effect; retry.
    Network,
    /// A fault of our own in building the call.
    Internal,
}

impl FailureKind {
    /// Whether it tells of XCO's or the network's state rather than of the job.
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Upstream | Self::Gateway | Self::Timeout | Self::Broken | Self::Network)
    }

    /// Whether the call may have taken effect although it failed.
    pub const fn effect_unknown(self) -> bool {
        matches!(self, Self::Gateway | Self::Timeout | Self::Broken)
    }
}

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFailure {
    /// What it means.
    pub kind: FailureKind,
    /// The status XCO answered with.
    pub http_status: Option<u16>,
    /// XCO's problem document (bounded).
    pub problem: Option<JsonText>,
    /// `Retry-After`, as a delay from now (bounded). With [`FailureKind::Network`]: no request was sent, because there is no
    /// access token to be had before then.
    pub retry_after: Option<Duration>,
    /// One sentence, without personal data. It ends with the remedy, where there is one.
    pub message: String,
    /// What an operator can do about it.
    pub remedy: Option<&'static str>,
}

impl CallFailure {
    /// Whether no request was sent because there is no access token to be had for a while.
    pub fn awaits_token(&self) -> bool {
        self.kind == FailureKind::Network && self.retry_after.is_some()
    }

    /// A failure that XCO did not answer.
    pub(super) fn unanswered(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, http_status: None, problem: None, retry_after: None, message: message.into(), remedy: None }
    }
}

/// What an error answer is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrorAnswer<'a> {
    /// Which call it answers.
    pub(super) route: Route,
    /// Any status but a 2xx.
    pub(super) status: u16,
    /// The problem document.
    pub(super) problem: Option<&'a Value>,
    /// `WWW-Authenticate`.
    pub(super) www_authenticate: Option<&'a str>,
    /// Whether the token used may be past its life: it is by our own clock, or its life is not known.
    pub(super) token_expired: bool,
}

/// What configuration says about statuses that XCO's public pages leave open.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    /// `xco.already_exists_types`
    pub(super) already_exists_types: Vec<String>,
    /// `xco.invalid_code_statuses`
    pub(super) invalid_code_statuses: Vec<u16>,
}

/// A verdict on an error answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What it means, if nothing can be done about it.
    pub(super) kind: FailureKind,
    /// A 401 about the token: worth one new token and one repetition.
    pub(super) token: bool,
}

/// Status → verdict.
///
/// | status | verdict |
/// |---|---|
/// | 400, 422 | at create with a listed type [`Conflict`](FailureKind::Conflict); at verify see [`verify`]; else [`Validation`](FailureKind::Validation) |
/// | 401 | about the token, except a wrong code at verify: [`Unauthorized`](FailureKind::Unauthorized) |
/// | 403, 404 | [`Forbidden`](FailureKind::Forbidden), [`NotFound`](FailureKind::NotFound); at verify see [`verify`] |
/// | 408, 421, 425 | not taken up by the server, which says that the request may be repeated: [`Upstream`](FailureKind::Upstream) |
/// | 409 | [`Conflict`](FailureKind::Conflict) |
/// | 429 | [`RateLimited`](FailureKind::RateLimited) |
/// | other 4xx | [`Validation`](FailureKind::Validation) |
/// | 500, 503 | [`Upstream`](FailureKind::Upstream): XCO's own guide says to retry |
/// | other 5xx | a proxy's answer (502, 504, 520 to 527 …): it may have passed the request on, and XCO may have done it: [`Gateway`](FailureKind::Gateway) |
/// | 1xx, 3xx, 6xx and up | not XCO's: a proxy's, or `xco.base_url` is wrong. A redirect may come after the effect (303 says so): [`Gateway`](FailureKind::Gateway) |
pub(super) fn classify(answer: ErrorAnswer<'_>, policy: &Policy) -> Verdict {
    let kind = |kind| Verdict { kind, token: false };
    match answer.status {
        429 => kind(FailureKind::RateLimited),
        400 | 422 if answer.route == Route::Create && says_already_exists(answer.problem, policy) => {
            kind(FailureKind::Conflict)
        }
        400..=499 if answer.route == Route::Verify && policy.invalid_code_statuses.contains(&answer.status) => {
            verify(answer)
        }
        401 => Verdict { kind: FailureKind::Unauthorized, token: true },
        403 => kind(FailureKind::Forbidden),
        404 => kind(FailureKind::NotFound),
        408 | 421 | 425 | 500 | 503 => kind(FailureKind::Upstream),
        409 => kind(FailureKind::Conflict),
        400..=499 => kind(FailureKind::Validation),
        _ => kind(FailureKind::Gateway),
    }
}

fn says_already_exists(problem: Option<&Value>, policy: &Policy) -> bool {
    problem::type_of(problem).is_some_and(|found| policy.already_exists_types.iter().any(|listed| listed == found))
}

/// Words that speak of the code. They decide first: `otp-token-expired` is about a code.
const CODE_WORDS: [&str; 5] = ["code", "otp", "passcode", "passwordless", "challenge"];
/// Words that speak of the access token.
const TOKEN_WORDS: [&str; 3] = ["token", "jwt", "bearer"];
/// Words that speak of what the merchant or the client may do.
const PERMISSION_WORDS: [&str; 6] = ["merchant", "origin", "permission", "scope", "client", "access-denied"];
/// Words that speak of whom or what was not found.
const SUBJECT_WORDS: [&str; 4] = ["merchant", "user", "customer", "route"];

/// An error answer to verify, of a status that may mean a wrong code: which status does is not public, so the answer's
/// own words decide, and where they say nothing the customer is asked for the code again.
///
/// A repetition spends one of the customer's attempts at the code, so a 401 counts as the token's only when the answer
/// (`WWW-Authenticate: … error="invalid_token"`, or the problem's `type` or `error`) or our own clock says so, or where no
/// clock can: the token endpoint did not say how long the token lives. That repetition is made with a new token, about which
/// there is no such doubt: it is the last.
fn verify(answer: ErrorAnswer<'_>) -> Verdict {
    let kind = |kind| Verdict { kind, token: false };
    let words = problem::words(answer.problem);
    let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
    if says(&CODE_WORDS) || problem::pointers(answer.problem).any(|pointer| pointer == "/verification_code") {
        return kind(FailureKind::InvalidCode);
    }
    match answer.status {
        401 if answer.token_expired || challenge_blames_token(answer.www_authenticate) || says(&TOKEN_WORDS) => {
            Verdict { kind: FailureKind::Unauthorized, token: true }
        }
        403 if says(&PERMISSION_WORDS) => kind(FailureKind::Forbidden),
        404 if says(&SUBJECT_WORDS) => kind(FailureKind::NotFound),
        // Fields are named, and the code is not among them.
        400 | 422 if problem::pointers(answer.problem).next().is_some() => kind(FailureKind::Validation),
        _ => kind(FailureKind::InvalidCode),
    }
}

/// RFC 6750 §3.1: `error="invalid_token"`.
fn challenge_blames_token(www_authenticate: Option<&str>) -> bool {
    www_authenticate.is_some_and(|challenge| challenge.to_ascii_lowercase().contains("invalid_token"))
}

/// The sentence of a failure: call, status and the problem's title. Never `detail`, which may quote the customer.
pub(super) fn message(route: Route, status: u16, problem: Option<&Value>) -> String {
    let mut text = format!("XCO answered {status} to {}", route.what());
    if (300..400).contains(&status) {
        text.push_str(" (redirects are not followed: see xco.base_url)");
    }
    if let Some(title) = problem::title(problem) {
        text.push_str(": ");
        text.push_str(&title);
    }
    text
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
