//! The table of job types: names, outcomes, defaults, and what each needs.

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

/// The facts of one job type. A new type adds its row to [`TABLE`], a file below `jobs`, its arguments and its wire call.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct JobTypeFacts {
    /// The name used in jobs and completions.
    pub name: &'static str,
    /// The name used in configuration keys, such as `check_user`.
    pub config_key: &'static str,
    /// The outcomes that a job of this type can have.
    pub outcomes: &'static [Outcome],
    /// Default of `retry.<type>.max_attempts`.
    pub default_attempts: &'static str,
    /// Default of `queue.ttl.<type>`, as TOML.
    pub default_ttl: &'static str,
    /// Whether every job of this type needs a caller, `caller_id` or `customer_reference`. Another type needs one only with a
    /// code.
    pub needs_caller: bool,
    /// Whether the call names a merchant to XCO.
    pub names_merchant: bool,
    /// Whether `args` has a `customer_reference`.
    pub has_reference: bool,
    /// Whether XCO sends a code to the customer.
    pub sends_code: bool,
    /// Whether every job of this type carries a code, which is never kept.
    pub is_code: bool,
    /// Maximum number of calls that the job makes without any failure.
    pub steps: u64,
}

/// One row for each type, in the order of [`JobType::ALL`].
const TABLE: [JobTypeFacts; JobType::ALL.len()] = [
    JobTypeFacts {
        name: "CheckUser",
        config_key: "check_user",
        outcomes: &[Outcome::Exists, Outcome::Absent],
        default_attempts: "8",
        default_ttl: "\"off\"",
        needs_caller: true,
        names_merchant: false,
        has_reference: false,
        sends_code: false,
        is_code: false,
        steps: 1,
    },
    JobTypeFacts {
        name: "CreateUser",
        config_key: "create_user",
        outcomes: &[Outcome::Created, Outcome::AlreadyExists],
        default_attempts: "8",
        default_ttl: "\"off\"",
        needs_caller: false,
        names_merchant: true,
        has_reference: true,
        sends_code: false,
        is_code: false,
        steps: 1,
    },
    // A customer waits for a code, or for the check of one, and not for long. The other types may take their time.
    JobTypeFacts {
        name: "StartOtp",
        config_key: "start_otp",
        outcomes: &[Outcome::OtpSent],
        default_attempts: "3",
        default_ttl: "\"2m\"",
        needs_caller: true,
        names_merchant: true,
        has_reference: false,
        sends_code: true,
        is_code: false,
        steps: 1,
    },
    JobTypeFacts {
        name: "VerifyOtp",
        config_key: "verify_otp",
        outcomes: &[Outcome::Verified],
        default_attempts: "3",
        default_ttl: "\"1m\"",
        needs_caller: true,
        names_merchant: true,
        has_reference: false,
        sends_code: false,
        is_code: true,
        steps: 1,
    },
    JobTypeFacts {
        name: "FinalizeConsent",
        config_key: "finalize_consent",
        outcomes: &[Outcome::Consented],
        default_attempts: "5",
        default_ttl: "\"off\"",
        needs_caller: false,
        names_merchant: true,
        has_reference: true,
        sends_code: false,
        is_code: false,
        steps: 2,
    },
];

impl JobType {
    /// All types, in the order of the sign-up flow.
    pub const ALL: [Self; 5] =
        [Self::CheckUser, Self::CreateUser, Self::StartOtp, Self::VerifyOtp, Self::FinalizeConsent];

    /// The type's row in the table of job types.
    pub const fn facts(self) -> &'static JobTypeFacts {
        const ROWS: &[JobTypeFacts; JobType::ALL.len()] = &TABLE;
        &ROWS[self.index()]
    }

    /// The position in [`JobType::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name used in jobs and completions.
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// The name used in configuration keys, such as `check_user`.
    pub const fn config_key(self) -> &'static str {
        self.facts().config_key
    }

    /// Returns the type with this name, `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job_type| job_type.as_str() == name)
    }

    /// The names of all types, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
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
        job_type.facts().outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_stands_at_its_type() {
        for (at, job_type) in JobType::ALL.into_iter().enumerate() {
            assert_eq!(job_type.index(), at);
            assert_eq!(format!("{job_type:?}"), job_type.as_str());
        }
    }
}
