//! Verdicts, and the rules common to all types: which failures are retried, when, and which are final.

use super::{Attempt, JobState, RepeatSafety};
use crate::{
    config::RetryPolicy,
    contract::{ErrorKind, Job, JobError, JsonText, Outcome, millis},
    xco::{CallFailure, FailureKind},
};
use std::time::Duration;

/// The circumstances in which a call ended.
#[derive(Debug, Clone, Copy)]
pub struct CallCircumstances {
    /// The retry policy of the job's type.
    pub policy: RetryPolicy,
    /// A random number from 0 up to 1. It is a parameter so that the decision is a pure function.
    pub jitter: f64,
    /// XCO is down as a whole. Its failures cost the job no attempt.
    pub outage: bool,
    /// Whether XCO refuses this client or only this job.
    pub refusal: CredentialRefusal,
}

/// What the calls of other jobs say about a refused call (401, 403).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialRefusal {
    /// The refusal concerns only this job, as far as is known.
    Own,
    /// The previous call was refused too, and none was accepted since. The refusal may concern all jobs.
    Suspected,
    /// The refusal concerns all jobs.
    Everybodys,
}

/// What happens to a job after a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum NextStep {
    /// The job completes with success.
    Succeeded {
        /// The outcome in the completion.
        outcome: Outcome,
        /// The result in the completion, if the type has one.
        result: Option<JsonText>,
    },
    /// The job completes with a failure.
    Failed {
        /// The error in the completion.
        error: JobError,
        /// Whether the job is kept as a dead letter, because an operator may want to replay it.
        dead_letter: bool,
    },
    /// The job tries again later.
    Retry {
        /// The error of this attempt.
        error: JobError,
        /// The delay from now, in milliseconds.
        delay_ms: u64,
    },
    /// XCO answered 429. The bucket is closed and the job waits for its turn after that. This costs no attempt.
    Defer {
        /// The delay that XCO asked for.
        retry_after: Option<Duration>,
    },
    /// The job continues with its next step.
    Continue,
    /// The job is handed back without a call, for example because the worker is stopping.
    Release,
}

impl NextStep {
    /// The attempt that ended with this verdict. `None` if the job succeeded, or if no call was made.
    pub const fn attempt(&self, at_ms: u64, took_ms: u64, http_status: Option<u16>) -> Option<Attempt> {
        let error = match self {
            Self::Succeeded { .. } | Self::Release => return None,
            Self::Failed { error, .. } | Self::Retry { error, .. } => Some(error.kind),
            Self::Defer { .. } => Some(ErrorKind::RateLimited),
            Self::Continue => None,
        };
        Some(Attempt { at_ms, took_ms, http_status, error })
    }
}

/// Returns the delay in milliseconds before attempt `failures + 1`: full jitter below an exponentially growing bound,
/// and never less than XCO asked for.
///
/// Full jitter is described in "Exponential Backoff And Jitter" (AWS Architecture Blog): uniform between zero and
/// `min(cap, base * 2^(failures - 1))`. It is computed from the number of failures alone, because it must survive a
/// restart.
pub fn retry_delay_ms(policy: RetryPolicy, failures: u32, retry_after: Option<Duration>, jitter: f64) -> u64 {
    let base_ms = millis(policy.base).max(1);
    let cap_ms = millis(policy.cap).max(1);
    let doublings = failures.saturating_sub(1).min(40);
    let bound_ms = base_ms.saturating_mul(1_u64 << doublings).min(cap_ms);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // Delays are far below 2^52 ms, and the jitter is between 0 and 1.
    let delay_ms = (bound_ms as f64 * jitter.clamp(0.0, 1.0)) as u64;
    delay_ms.max(retry_after.map_or(0, millis))
}

/// Handles a call whose effect is unknown. Returns `None` if the job continues (`state` has what it must know), or the
/// error it ends with.
pub(super) fn in_doubt(state: &mut JobState, repeat_safety: RepeatSafety, how: &str) -> Option<JobError> {
    match repeat_safety {
        RepeatSafety::Safe => None,
        RepeatSafety::CheckFirst | RepeatSafety::RepeatThenReport => {
            state.doubt = true;
            state.checked = false;
            None
        }
        RepeatSafety::Never => Some(JobError::plain(
            ErrorKind::InDoubt,
            format!("{how}: it may have taken effect, so it is not repeated"),
            false,
        )),
    }
}

/// Decides what a failed call means. The rule is the same for all types.
pub(super) fn failed(
    job: &Job,
    state: &mut JobState,
    circumstances: CallCircumstances,
    repeat_safety: RepeatSafety,
    failure: CallFailure,
) -> NextStep {
    let CallCircumstances { policy, jitter, outage, refusal } = circumstances;
    let everybodys = refusal == CredentialRefusal::Everybodys;
    let (kind, again) = match failure.kind {
        FailureKind::RateLimited => return NextStep::Defer { retry_after: failure.retry_after },
        FailureKind::Validation => (ErrorKind::Validation, false),
        FailureKind::Unauthorized => (ErrorKind::Unauthorized, refusal != CredentialRefusal::Own),
        FailureKind::Forbidden => (ErrorKind::Forbidden, everybodys),
        FailureKind::NotFound => (ErrorKind::NotFound, false),
        FailureKind::Conflict => (ErrorKind::Conflict, false),
        FailureKind::InvalidCode => (ErrorKind::InvalidCode, false),
        FailureKind::Internal => (ErrorKind::Internal, false),
        FailureKind::Upstream | FailureKind::Gateway => (ErrorKind::Upstream, true),
        FailureKind::Timeout => (ErrorKind::Timeout, true),
        FailureKind::Network | FailureKind::Broken => (ErrorKind::Network, true),
    };
    // Nothing was sent, or XCO refuses all calls: the failure is not the job's own.
    let most = job.max_attempts.unwrap_or(policy.max_attempts);
    // A job with `max_attempts` 1 makes one call, whatever the reason for its failure.
    let spared = again && (failure.awaits_token() || most > 1 && (outage || everybodys));
    state.failures = state.failures.saturating_add(u32::from(!spared));
    let retry_after = failure.retry_after;
    let unknown = failure.kind.effect_unknown();
    let mut error = JobError {
        kind,
        message: failure.message,
        http_status: failure.http_status,
        problem: failure.problem,
        fields: None,
        retryable: again || kind == ErrorKind::Unauthorized,
    };
    if unknown && let Some(end) = in_doubt(state, repeat_safety, &error.message) {
        error.kind = end.kind;
        error.message = end.message;
        error.retryable = end.retryable;
        return NextStep::Failed { error, dead_letter: true };
    }
    if spared || again && state.failures < most {
        let delay_ms = retry_delay_ms(policy, state.failures.max(1), retry_after, jitter);
        return NextStep::Retry { error, delay_ms };
    }
    // The customer learns of a wrong code at once. An operator could not use the dead letter.
    NextStep::Failed { dead_letter: kind != ErrorKind::InvalidCode, error }
}

/// Returns the verdict for an answer that does not match the call: a fault of this program (or of a simulator of XCO).
pub(super) fn mismatched() -> NextStep {
    NextStep::Failed {
        error: JobError::plain(ErrorKind::Internal, "the answer does not belong to the call", true),
        dead_letter: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_keeps_its_bounds(
            base in 0_u64..100_000,
            cap in 0_u64..1_000_000,
            failures in 0_u32..=u32::MAX,
            after in proptest::option::of(0_u64..86_400_000),
            jitter in 0.0_f64..1.0,
        ) {
            let policy = RetryPolicy {
                base: Duration::from_millis(base),
                cap: Duration::from_millis(cap),
                max_attempts: 3,
            };
            let delay = retry_delay_ms(policy, failures, after.map(Duration::from_millis), jitter);
            prop_assert!(delay <= cap.max(1).max(after.unwrap_or(0)));
            prop_assert!(delay >= after.unwrap_or(0));
            let wider = retry_delay_ms(policy, failures.saturating_add(1), after.map(Duration::from_millis), jitter);
            prop_assert!(wider >= delay);
        }
    }
}
