//! The seam between the queue and XCO: a call, and the report of it. Benchmarks put a no-op here.

use super::CallFailure;
use crate::contract::{CallerId, Contact, CustomerReference, JsonText, MerchantId, NewUser, VerificationCode};
use jiff::Timestamp;
use std::{future::Future, time::Duration};

/// One call to XCO. Every delivery of a job makes exactly one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Call<'a> {
    /// `GET /v1/users/exists`
    CheckUser {
        /// Whom to look up.
        contact: &'a Contact,
        /// Sent as `caller_id`; none spends the client's bucket.
        caller: Option<&'a CallerId>,
    },
    /// `POST /v1/merchants/{merchant}/users`
    CreateUser {
        /// The merchant.
        merchant: &'a MerchantId,
        /// The merchant's own identifier.
        customer_reference: &'a CustomerReference,
        /// The user.
        user: &'a NewUser,
    },
    /// `POST …/passwordless/start`
    StartOtp {
        /// The merchant.
        merchant: &'a MerchantId,
        /// Where the code goes.
        contact: &'a Contact,
        /// Sent as `caller_id`.
        caller: Option<&'a CallerId>,
    },
    /// `POST …/passwordless/verify`
    VerifyOtp {
        /// The merchant.
        merchant: &'a MerchantId,
        /// Where the code went.
        contact: &'a Contact,
        /// The code.
        code: &'a VerificationCode,
        /// Sent as `caller_id`.
        caller: Option<&'a CallerId>,
    },
    /// `POST …/users/{customer_reference}/consents`
    CreateConsent {
        /// The merchant.
        merchant: &'a MerchantId,
        /// The merchant's own identifier, percent-encoded in the path.
        customer_reference: &'a CustomerReference,
        /// From a verify.
        challenge_id: &'a str,
    },
}

/// What goes along with a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallContext<'a> {
    /// W3C trace context to send on.
    pub traceparent: Option<&'a str>,
    /// W3C trace state to send on.
    pub tracestate: Option<&'a str>,
    /// The time, on a better clock than this machine's: what a date in `Retry-After` counts from where the answer has none.
    pub now: Option<Timestamp>,
}

/// What XCO answered, on success.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To `CheckUser`.
    Exists {
        /// Whether XCO knows the customer.
        exists: bool,
        /// How many payment tokens it holds; 0 where the answer holds no count.
        token_count: u64,
    },
    /// To `CreateUser`: XCO's whole answer.
    Created(JsonText),
    /// To `StartOtp`.
    OtpSent,
    /// To `VerifyOtp`.
    Verified {
        /// For the consent.
        consent_challenge_id: String,
        /// The customer's profile, where the answer holds one.
        user: Option<JsonText>,
    },
    /// To `CreateConsent`.
    Consented,
}

/// A call's end.
#[derive(Debug)]
pub struct CallReport {
    /// What came of it.
    pub result: Result<Answer, CallFailure>,
    /// HTTP requests made to the XCO API: 2 where a 401 was cured by a new token, or the server did not process the first; 0
    /// where none was sent (no token).
    pub calls: u32,
    /// Time spent, token included.
    pub elapsed: Duration,
}

/// Something that can be called like XCO.
pub trait XcoApi: Send + Sync + 'static {
    /// Makes the call. Never retries, except once after a 401 that is about the token, and where the server said that it did
    /// not process the request.
    fn call<'a>(&'a self, call: Call<'a>, context: CallContext<'a>) -> impl Future<Output = CallReport> + Send + 'a;

    /// The process has as many files open as it may: gives up connections that nobody uses now.
    fn give_up_idle(&self) {}
}
