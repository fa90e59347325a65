//! The interface between the queue and XCO: a call and its report. Benchmarks replace XCO by a no-op here.

use super::CallFailure;
use crate::contract::{CallerId, Contact, CustomerReference, JsonText, MerchantId, NewUser, VerificationCode};
use jiff::Timestamp;
use std::{future::Future, time::Duration};

/// One call to XCO. Each delivery of a job makes exactly one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Call<'a> {
    /// `GET /v1/users/exists`
    CheckUser {
        /// The customer to look up.
        contact: &'a Contact,
        /// Sent as `caller_id`. Without it, the call counts against the rate limit of the API client.
        caller: Option<&'a CallerId>,
    },
    /// `POST /v1/merchants/{merchant}/users`
    CreateUser {
        /// The merchant that creates the account.
        merchant: &'a MerchantId,
        /// The merchant's own identifier of the customer.
        customer_reference: &'a CustomerReference,
        /// The customer's data, sent as the body's `user`.
        user: &'a NewUser,
    },
    /// `POST …/passwordless/start`
    StartOtp {
        /// The merchant on whose behalf the code is sent.
        merchant: &'a MerchantId,
        /// The email address or phone number that receives the code.
        contact: &'a Contact,
        /// Sent as `caller_id`. Without it, the call counts against the rate limit of the API client.
        caller: Option<&'a CallerId>,
    },
    /// `POST …/passwordless/verify`
    VerifyOtp {
        /// The merchant on whose behalf the code was sent.
        merchant: &'a MerchantId,
        /// The email address or phone number that received the code.
        contact: &'a Contact,
        /// The code that the customer entered.
        code: &'a VerificationCode,
        /// Sent as `caller_id`. Without it, the call counts against the rate limit of the API client.
        caller: Option<&'a CallerId>,
    },
    /// `POST …/users/{customer_reference}/consents`
    CreateConsent {
        /// The merchant that receives the consent.
        merchant: &'a MerchantId,
        /// The merchant's own identifier, percent-encoded in the path.
        customer_reference: &'a CustomerReference,
        /// The `consent_challenge_id` that `VerifyOtp` returned.
        challenge_id: &'a str,
    },
}

impl<'a> Call<'a> {
    /// The merchant that the call names to XCO.
    pub const fn merchant(&self) -> Option<&'a MerchantId> {
        match *self {
            Self::CheckUser { .. } => None,
            Self::CreateUser { merchant, .. }
            | Self::StartOtp { merchant, .. }
            | Self::VerifyOtp { merchant, .. }
            | Self::CreateConsent { merchant, .. } => Some(merchant),
        }
    }
}

/// Values that accompany a call and are no part of its arguments.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallContext<'a> {
    /// W3C `traceparent` header to send.
    pub traceparent: Option<&'a str>,
    /// W3C `tracestate` header to send. Ignored without `traceparent`.
    pub tracestate: Option<&'a str>,
    /// Current time from a better clock than this machine's. A date in `Retry-After` counts from it if the answer has
    /// no `Date`.
    pub now: Option<Timestamp>,
}

/// A successful answer from XCO.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Answer to `CheckUser`.
    Exists {
        /// Whether XCO knows the customer.
        exists: bool,
        /// Number of payment tokens that XCO holds; 0 if the answer has no readable count.
        token_count: u64,
    },
    /// Answer to `CreateUser`: XCO's whole body.
    Created(JsonText),
    /// Answer to `StartOtp`: the code was sent.
    OtpSent,
    /// Answer to `VerifyOtp`: the code was right.
    Verified {
        /// The challenge that `CreateConsent` needs.
        consent_challenge_id: String,
        /// The customer's profile, if the answer holds one.
        user: Option<JsonText>,
    },
    /// Answer to `CreateConsent`: the consent is recorded.
    Consented,
}

/// Result and cost of one call.
#[derive(Debug)]
pub struct CallReport {
    /// The answer, or the reason why there is none.
    pub result: Result<Answer, CallFailure>,
    /// Number of HTTP requests made to the XCO API. 2 if a new token cured a 401 or the server did not process the
    /// first request; 0 if nothing was sent (no token).
    pub calls: u32,
    /// Duration of the call, including the wait for a token.
    pub elapsed: Duration,
}

/// An implementation of the XCO API: the HTTP client, or a stand-in in tests and benchmarks.
pub trait XcoApi: Send + Sync + 'static {
    /// Makes the call. Repeats it only once after a 401 about the token, and after a server reports that it did not
    /// process the request.
    fn call<'a>(&'a self, call: Call<'a>, context: CallContext<'a>) -> impl Future<Output = CallReport> + Send + 'a;

    /// Closes idle connections. Called when the process has reached its limit of open files.
    fn give_up_idle(&self) {}
}
