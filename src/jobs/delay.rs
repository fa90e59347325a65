//! Why a job is delayed, by its state.

use super::{JobState, Waiting};
use crate::contract::DelayReason;

/// Why a job with this state was delayed; that it was cancelled since does not change it.
pub fn delayed_because(state: Option<&JobState>) -> DelayReason {
    let Some(state) = state else { return DelayReason::Slot };
    match state.waiting.map(|(waiting, _)| waiting) {
        Some(Waiting::Limit) => DelayReason::Limit,
        Some(Waiting::Retry) => DelayReason::Retry,
        Some(Waiting::Schedule) => DelayReason::RunAt,
        Some(Waiting::Paused) if state.by_breaker => DelayReason::Breaker,
        Some(Waiting::Paused) => DelayReason::Paused,
        Some(Waiting::Slot) | None => DelayReason::Slot,
    }
}

/// What a delayed job with this state waits for now.
pub fn waits_for(state: Option<&JobState>) -> DelayReason {
    if state.is_some_and(|state| state.cancelled) { DelayReason::Cancelled } else { delayed_because(state) }
}
