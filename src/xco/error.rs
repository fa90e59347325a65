//! What a failed call means. The only place where an HTTP status becomes a [`FailureKind`].

use super::{problem, route::Route};
use crate::contract::JsonText;
use serde_json::Value;
use std::time::Duration;

/// What a failed call means for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// 400, 422 and other 4xx: the request is wrong. Never retried.
    Validation,
    /// 401, and a new token did not help.
    Unauthorized,
    /// 403: the client may not do this.
    Forbidden,
    /// 404: something that the call names does not exist.
    NotFound,
    /// 409, or a problem `type` listed in `xco.already_exists_types` (after which a `CreateUser` job succeeds).
    Conflict,
    /// An error answer to a verification that means a wrong code.
    InvalidCode,
    /// 429. Does not count as an attempt.
    RateLimited,
    /// XCO answered 500 or 503: the call failed without effect. Retried.
    Upstream,
    /// Another 5xx, or a redirect: a proxy in front of XCO answered. The effect is unknown.
    Gateway,
    /// The request was sent, but the answer did not come in time, broke off or was unreadable. The effect is unknown.
    Timeout,
    /// The connection broke when the request may already have been sent. The effect is unknown.
    Broken,
    /// The request was never sent: no connection or no token. No effect; retried.
    Network,
    /// This program could not build the request.
    Internal,
}

impl FailureKind {
    /// Whether the failure reflects the state of XCO or the network, and not this job.
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Upstream | Self::Gateway | Self::Timeout | Self::Broken | Self::Network)
    }

    /// Whether the call may have taken effect in spite of the failure.
    pub const fn effect_unknown(self) -> bool {
        matches!(self, Self::Gateway | Self::Timeout | Self::Broken)
    }
}

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFailure {
    /// Meaning of the failure for the job.
    pub kind: FailureKind,
    /// Status of XCO's answer, if there was one.
    pub http_status: Option<u16>,
    /// XCO's problem document, shortened to a bounded size.
    pub problem: Option<JsonText>,
    /// `Retry-After` as a delay from now (bounded). With [`FailureKind::Network`]: no request was sent, because no
    /// access token will be available before that.
    pub retry_after: Option<Duration>,
    /// One sentence without personal data. Ends with the remedy if there is one.
    pub message: String,
    /// What an operator can do.
    pub remedy: Option<&'static str>,
}

impl CallFailure {
    /// Whether no request was sent because no access token will be available for some time.
    pub fn awaits_token(&self) -> bool {
        self.kind == FailureKind::Network && self.retry_after.is_some()
    }

    /// A failure without an answer from XCO.
    pub(super) fn unanswered(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, http_status: None, problem: None, retry_after: None, message: message.into(), remedy: None }
    }
}

/// The parts of an error answer that decide what it means.
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrorAnswer<'a> {
    /// The call that was answered.
    pub(super) route: Route,
    /// Any status except 2xx.
    pub(super) status: u16,
    /// The problem document, if the body was one.
    pub(super) problem: Option<&'a Value>,
    /// The `WWW-Authenticate` header.
    pub(super) www_authenticate: Option<&'a str>,
    /// Whether the token may have expired: it has by our clock, or its lifetime is unknown.
    pub(super) token_expired: bool,
}

/// Configured answers to questions that XCO's public documentation leaves open.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    /// `xco.already_exists_types`: problem types that mean that the account exists.
    pub(super) already_exists_types: Vec<String>,
    /// `xco.invalid_code_statuses`: statuses of a verification that may mean a wrong code.
    pub(super) invalid_code_statuses: Vec<u16>,
}

/// Meaning of an error answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnswerMeaning {
    /// Meaning for the job, if nothing can be done about it.
    pub(super) kind: FailureKind,
    /// Whether this is a 401 about the token: fetch a new token and repeat the call once.
    pub(super) token: bool,
}

/// Classifies an error answer by its status.
///
/// | status | meaning |
/// |---|---|
/// | 400, 422 | to a create with a listed type: [`Conflict`](FailureKind::Conflict); to a verify: see [`verify`]; otherwise [`Validation`](FailureKind::Validation) |
/// | 401 | about the token, except a wrong code in a verify: [`Unauthorized`](FailureKind::Unauthorized) |
/// | 403, 404 | [`Forbidden`](FailureKind::Forbidden), [`NotFound`](FailureKind::NotFound); to a verify: see [`verify`] |
/// | 408, 421, 425 | the server did not process the request and allows a repetition: [`Upstream`](FailureKind::Upstream) |
/// | 409 | [`Conflict`](FailureKind::Conflict) |
/// | 429 | [`RateLimited`](FailureKind::RateLimited) |
/// | other 4xx | [`Validation`](FailureKind::Validation) |
/// | 500, 503 | [`Upstream`](FailureKind::Upstream): XCO's own guide says to retry |
/// | other 5xx | a proxy's answer (502, 504, 520 to 527 …). The proxy may have passed the request on, and XCO may have executed it: [`Gateway`](FailureKind::Gateway) |
/// | 1xx, 3xx, 6xx and up | not from XCO: from a proxy, or `xco.base_url` is wrong. A redirect may follow the effect (303 does): [`Gateway`](FailureKind::Gateway) |
pub(super) fn classify(answer: ErrorAnswer<'_>, policy: &Policy) -> AnswerMeaning {
    let kind = |kind| AnswerMeaning { kind, token: false };
    match answer.status {
        429 => kind(FailureKind::RateLimited),
        400 | 422 if answer.route == Route::Create && says_already_exists(answer.problem, policy) => {
            kind(FailureKind::Conflict)
        }
        400..=499 if answer.route == Route::Verify && policy.invalid_code_statuses.contains(&answer.status) => {
            verify(answer)
        }
        401 => AnswerMeaning { kind: FailureKind::Unauthorized, token: true },
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

/// Words that refer to the customer's code. They decide before [`TOKEN_WORDS`]: `otp-token-expired` is about a code.
const CODE_WORDS: [&str; 5] = ["code", "otp", "passcode", "passwordless", "challenge"];
/// Words that refer to the access token.
const TOKEN_WORDS: [&str; 3] = ["token", "jwt", "bearer"];
/// Words that refer to permissions of the merchant or the client.
const PERMISSION_WORDS: [&str; 6] = ["merchant", "origin", "permission", "scope", "client", "access-denied"];
/// Words that name what was not found.
const SUBJECT_WORDS: [&str; 4] = ["merchant", "user", "customer", "route"];

/// Classifies an error answer to a verification whose status may mean a wrong code. XCO does not document which status
/// that is, so the words of the answer decide. Without such words the customer is asked for the code again.
///
/// A repetition spends one of the customer's attempts at the code. A 401 is therefore about the token only if the
/// answer says so (`WWW-Authenticate: … error="invalid_token"`, or the problem's `type` or `error`), if our clock says
/// so, or if the token endpoint did not report the token's lifetime. The repetition uses a new token, about which there
/// is no such doubt, so it is the last.
fn verify(answer: ErrorAnswer<'_>) -> AnswerMeaning {
    let kind = |kind| AnswerMeaning { kind, token: false };
    let words = problem::words(answer.problem);
    let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
    if says(&CODE_WORDS) || problem::pointers(answer.problem).any(|pointer| pointer == "/verification_code") {
        return kind(FailureKind::InvalidCode);
    }
    match answer.status {
        401 if answer.token_expired || challenge_blames_token(answer.www_authenticate) || says(&TOKEN_WORDS) => {
            AnswerMeaning { kind: FailureKind::Unauthorized, token: true }
        }
        403 if says(&PERMISSION_WORDS) => kind(FailureKind::Forbidden),
        404 if says(&SUBJECT_WORDS) => kind(FailureKind::NotFound),
        // The answer names fields, and the code is not among them.
        400 | 422 if problem::pointers(answer.problem).next().is_some() => kind(FailureKind::Validation),
        _ => kind(FailureKind::InvalidCode),
    }
}

/// Whether the header contains `error="invalid_token"` (RFC 6750 §3.1).
fn challenge_blames_token(www_authenticate: Option<&str>) -> bool {
    www_authenticate.is_some_and(|challenge| challenge.to_ascii_lowercase().contains("invalid_token"))
}

/// Message of a failure: call, status and the problem's title. Never `detail`, which may quote the customer.
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
