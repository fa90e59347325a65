//! Applies operators' rules to a job in this worker's memory.

use super::active_job::{ActiveJob, DelayedBy, InsteadOfCall};
use crate::rules::{Decision, NO_END_MS, RuleSet};

/// What the rules require for a job.
pub(super) enum RuleCheck {
    /// No rule affects it.
    Go,
    /// Its lane is paused: it returns to the lane.
    Stay,
    /// It must not make its call.
    Instead(InsteadOfCall),
}

/// Checks the rules for a job that is about to request its slot.
pub(super) fn check(rules: &RuleSet, active: &ActiveJob, now_ms: u64) -> RuleCheck {
    if active.state.cancelled {
        return RuleCheck::Instead(InsteadOfCall::Cancel);
    }
    if active.is_given_up() {
        return RuleCheck::Instead(InsteadOfCall::GiveUp { losses: active.state.losses });
    }
    match rules.decide(&active.subject(), now_ms) {
        Decision::Go => RuleCheck::Go,
        Decision::Cancel(_) => RuleCheck::Instead(InsteadOfCall::Cancel),
        Decision::LanePaused(_) => RuleCheck::Stay,
        Decision::Pause(..) if active.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) => {
            RuleCheck::Instead(InsteadOfCall::Expire)
        }
        Decision::Pause(rule, order) => {
            let until_ms = order.until_ms.unwrap_or(NO_END_MS).min(active.deadline_ms.unwrap_or(NO_END_MS));
            RuleCheck::Instead(InsteadOfCall::Delay { by: DelayedBy::Rule(rule), due_ms: until_ms })
        }
    }
}
