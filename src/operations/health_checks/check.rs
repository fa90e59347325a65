//! The result of one check.

use super::super::printable;
use serde::Serialize;

/// How a checked thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// As it should be.
    Ok,
    /// A worker works, and an operator should know.
    Warn,
    /// A worker would not work, or would lose jobs.
    Fail,
    /// Not checked, because of an earlier failure.
    Skip,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// What was checked, in a few words.
    #[serde(rename = "check")]
    pub name: String,
    /// How it stands.
    pub status: HealthStatus,
    /// What was found, without control characters.
    pub detail: String,
    /// What to do about it. None for [`HealthStatus::Ok`] and [`HealthStatus::Skip`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl HealthCheck {
    fn new(status: HealthStatus, name: &str, detail: impl Into<String>, remedy: Option<&str>) -> Self {
        let detail = printable(&detail.into());
        Self { name: name.to_owned(), status, detail, remedy: remedy.map(str::to_owned) }
    }

    /// A check with the status [`HealthStatus::Ok`].
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::new(HealthStatus::Ok, name, detail, None)
    }

    /// A check with the status [`HealthStatus::Warn`].
    pub fn warn(name: &str, detail: impl Into<String>, remedy: &str) -> Self {
        Self::new(HealthStatus::Warn, name, detail, Some(remedy))
    }

    /// A check with the status [`HealthStatus::Fail`].
    pub fn fail(name: &str, detail: impl Into<String>, remedy: &str) -> Self {
        Self::new(HealthStatus::Fail, name, detail, Some(remedy))
    }

    /// A check with the status [`HealthStatus::Skip`].
    pub fn skip(name: &str, detail: impl Into<String>) -> Self {
        Self::new(HealthStatus::Skip, name, detail, None)
    }
}
