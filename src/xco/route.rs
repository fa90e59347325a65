//! The five calls, as routes of the XCO API.

/// The five calls without their arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `CheckUser`
    Exists,
    /// `CreateUser`
    Create,
    /// `StartOtp`
    Start,
    /// `VerifyOtp`
    Verify,
    /// `CreateConsent`
    Consent,
}

impl Route {
    /// The route's template, for spans. Never contains a value.
    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::Exists => "/v1/users/exists",
            Self::Create => "/v1/merchants/{merchantId}/users",
            Self::Start => "/v1/merchants/{merchantId}/users/passwordless/start",
            Self::Verify => "/v1/merchants/{merchantId}/users/passwordless/verify",
            Self::Consent => "/v1/merchants/{merchantId}/users/{customerReference}/consents",
        }
    }

    /// Name of the call in messages.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Exists => "the user check",
            Self::Create => "the user's creation",
            Self::Start => "the start of passwordless",
            Self::Verify => "the verification",
            Self::Consent => "the consent",
        }
    }

    /// `GET` or `POST`.
    pub(super) const fn method(self) -> &'static str {
        if matches!(self, Self::Exists) { "GET" } else { "POST" }
    }
}
