//! Which retry policy a type has.

use super::{RetryConfig, RetryPolicy, defaults::defaults};
use crate::contract::JobType;

impl RetryConfig {
    /// The policy of a type: what `retry.<type>` says, else `retry`, else the type's default.
    ///
    /// `base` is never above `cap`: where only one of them is set, the cap decides.
    pub fn policy(&self, job_type: JobType) -> RetryPolicy {
        let default = &defaults().retry;
        let of_type = self.types.get(&job_type).copied().unwrap_or_default();
        let default_of_type = default.types.get(&job_type).copied().unwrap_or_default();
        // The table has a default for each of the three; a test sees to it.
        let cap = of_type.cap.or(self.cap).or(default.cap).unwrap_or_default();
        let max_attempts = of_type.max_attempts.or(self.max_attempts).or(default_of_type.max_attempts);
        RetryPolicy {
            base: of_type.base.or(self.base).or(default.base).unwrap_or_default().min(cap),
            cap,
            max_attempts: max_attempts.unwrap_or(1),
        }
    }

    /// Maximum number of retries as a percentage of first attempts; 0: no budget.
    pub fn budget_percent(&self) -> u32 {
        self.budget.or(defaults().retry.budget).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::RetryOverride;
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_nearest_word_counts() {
        let secs = Duration::from_secs;
        let mut config = RetryConfig::default();
        let default = config.policy(JobType::StartOtp);
        assert_eq!((default.base, default.cap, default.max_attempts), (Duration::from_millis(500), secs(60), 3));
        assert_eq!(config.policy(JobType::CreateUser).max_attempts, 8);
        assert_eq!(config.policy(JobType::FinalizeConsent).max_attempts, 5);
        assert_eq!(config.budget_percent(), 20);

        config.max_attempts = Some(4);
        config.base = Some(secs(2));
        let start_otp = RetryOverride { cap: Some(secs(1)), max_attempts: Some(1), base: None };
        config.types.insert(JobType::StartOtp, start_otp);
        let policy = config.policy(JobType::StartOtp);
        assert_eq!((policy.base, policy.cap, policy.max_attempts), (secs(1), secs(1), 1));
        let policy = config.policy(JobType::VerifyOtp);
        assert_eq!((policy.base, policy.cap, policy.max_attempts), (secs(2), secs(60), 4));
    }
}
