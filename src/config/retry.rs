//! Which retry policy a type has.

use super::{RetryConfig, RetryPolicy};
use crate::contract::JobType;
use std::time::Duration;

const DEFAULT_BASE: Duration = Duration::from_millis(500);
const DEFAULT_CAP: Duration = Duration::from_secs(60);

impl RetryConfig {
    /// The policy of a type: what `retry.<type>` says, else `retry`, else the type's default.
    ///
    /// `base` is never above `cap`: where only one of them is set, the cap decides.
    pub fn policy(&self, job_type: JobType) -> RetryPolicy {
        let of_type = self.types.get(&job_type).copied().unwrap_or_default();
        let cap = of_type.cap.or(self.cap).unwrap_or(DEFAULT_CAP);
        RetryPolicy {
            base: of_type.base.or(self.base).unwrap_or(DEFAULT_BASE).min(cap),
            cap,
            max_attempts: of_type.max_attempts.or(self.max_attempts).unwrap_or(default_max_attempts(job_type)),
        }
    }
}

/// A customer waits for a code or for its check, and soon not any longer; the others may take their time.
const fn default_max_attempts(job_type: JobType) -> u32 {
    match job_type {
        JobType::CheckUser | JobType::CreateUser => 8,
        JobType::StartOtp | JobType::VerifyOtp => 3,
        JobType::FinalizeConsent => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::super::RetryOverride;
    use super::*;

    #[test]
    fn the_nearest_word_counts() {
        let secs = Duration::from_secs;
        let mut config = RetryConfig::default();
        let default = config.policy(JobType::StartOtp);
        assert_eq!((default.base, default.cap, default.max_attempts), (DEFAULT_BASE, DEFAULT_CAP, 3));
        assert_eq!(config.policy(JobType::CreateUser).max_attempts, 8);
        assert_eq!(config.policy(JobType::FinalizeConsent).max_attempts, 5);

        config.max_attempts = Some(4);
        config.base = Some(secs(2));
        let start_otp = RetryOverride { cap: Some(secs(1)), max_attempts: Some(1), base: None };
        config.types.insert(JobType::StartOtp, start_otp);
        let policy = config.policy(JobType::StartOtp);
        assert_eq!((policy.base, policy.cap, policy.max_attempts), (secs(1), secs(1), 1));
        let policy = config.policy(JobType::VerifyOtp);
        assert_eq!((policy.base, policy.cap, policy.max_attempts), (secs(2), DEFAULT_CAP, 4));
    }
}
