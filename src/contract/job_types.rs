//! The five job types, and the outcomes that each can have.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The five job types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobType {
    /// Looks up a customer: `GET /v1/users/exists`.
    CheckUser,
    /// Creates a user: `POST …/users`.
    CreateUser,
    /// Sends a one-time code: `POST …/passwordless/start`.
    StartOtp,
    /// Verifies a one-time code: `POST …/passwordless/verify`.
    VerifyOtp,
    /// Links a user to the merchant: `POST …/consents`. If the job carries a code, it is verified first.
    FinalizeConsent,
}

impl JobType {
    /// All types, in the order of the sign-up flow.
    pub const ALL: [Self; 5] =
        [Self::CheckUser, Self::CreateUser, Self::StartOtp, Self::VerifyOtp, Self::FinalizeConsent];

    /// The name used in jobs and completions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheckUser => "CheckUser",
            Self::CreateUser => "CreateUser",
            Self::StartOtp => "StartOtp",
            Self::VerifyOtp => "VerifyOtp",
            Self::FinalizeConsent => "FinalizeConsent",
        }
    }

    /// The name used in configuration keys, such as `check_user`.
    pub const fn config_key(self) -> &'static str {
        match self {
            Self::CheckUser => "check_user",
            Self::CreateUser => "create_user",
            Self::StartOtp => "start_otp",
            Self::VerifyOtp => "verify_otp",
            Self::FinalizeConsent => "finalize_consent",
        }
    }

    /// Returns the type with this name, `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job_type| job_type.as_str() == name)
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of a job that succeeded, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// `CheckUser`: XCO knows the customer.
    Exists,
    /// `CheckUser`: XCO does not know the customer.
    Absent,
    /// `CreateUser`: the user was created.
    Created,
    /// `CreateUser`: the customer already has an account.
    AlreadyExists,
    /// `StartOtp`: XCO sent the code.
    OtpSent,
    /// `VerifyOtp`: the code was correct.
    Verified,
    /// `FinalizeConsent`: the user is linked to the merchant.
    Consented,
}

impl Outcome {
    /// All outcomes, in the order of the job types.
    pub const ALL: [Self; 7] = [
        Self::Exists,
        Self::Absent,
        Self::Created,
        Self::AlreadyExists,
        Self::OtpSent,
        Self::Verified,
        Self::Consented,
    ];

    /// Returns the outcome with this name, `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }

    /// The name used in completions and in `next`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Absent => "absent",
            Self::Created => "created",
            Self::AlreadyExists => "already_exists",
            Self::OtpSent => "otp_sent",
            Self::Verified => "verified",
            Self::Consented => "consented",
        }
    }

    /// The outcomes that a job type can have.
    pub const fn of(job_type: JobType) -> &'static [Self] {
        match job_type {
            JobType::CheckUser => &[Self::Exists, Self::Absent],
            JobType::CreateUser => &[Self::Created, Self::AlreadyExists],
            JobType::StartOtp => &[Self::OtpSent],
            JobType::VerifyOtp => &[Self::Verified],
            JobType::FinalizeConsent => &[Self::Consented],
        }
    }
}
