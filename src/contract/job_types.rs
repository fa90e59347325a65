//! The five job types, and the outcomes that each can have.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The five job types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobType {
    /// `GET /v1/users/exists`
    CheckUser,
    /// `POST …/users`
    CreateUser,
    /// `POST …/passwordless/start`
    StartOtp,
    /// `POST …/passwordless/verify`
    VerifyOtp,
    /// `POST …/consents`, after a verify where the job carries a code
    FinalizeConsent,
}

impl JobType {
    /// All of them, in the order of the flow.
    pub const ALL: [Self; 5] =
        [Self::CheckUser, Self::CreateUser, Self::StartOtp, Self::VerifyOtp, Self::FinalizeConsent];

    /// The name in jobs and completions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheckUser => "CheckUser",
            Self::CreateUser => "CreateUser",
            Self::StartOtp => "StartOtp",
            Self::VerifyOtp => "VerifyOtp",
            Self::FinalizeConsent => "FinalizeConsent",
        }
    }

    /// The name in configuration keys: `check_user`.
    pub const fn config_key(self) -> &'static str {
        match self {
            Self::CheckUser => "check_user",
            Self::CreateUser => "create_user",
            Self::StartOtp => "start_otp",
            Self::VerifyOtp => "verify_otp",
            Self::FinalizeConsent => "finalize_consent",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job_type| job_type.as_str() == name)
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a success came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// `CheckUser`: XCO knows the customer.
    Exists,
    /// `CheckUser`: it does not.
    Absent,
    /// `CreateUser`
    Created,
    /// `CreateUser`: the customer has an account already.
    AlreadyExists,
    /// `StartOtp`
    OtpSent,
    /// `VerifyOtp`
    Verified,
    /// `FinalizeConsent`
    Consented,
}

impl Outcome {
    /// All of them, in the order of the types.
    pub const ALL: [Self; 7] = [
        Self::Exists,
        Self::Absent,
        Self::Created,
        Self::AlreadyExists,
        Self::OtpSent,
        Self::Verified,
        Self::Consented,
    ];

    /// The outcome of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }

    /// The name in completions and in `next`.
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

    /// The outcomes a type can have.
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
