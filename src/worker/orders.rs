//! Applies operators' rules to a job in this worker's memory.

use super::delivery::{Held, Holder, Instead};
use crate::control::{Decision, NO_END_MS, Rules};

/// What the rules require for a job.
pub(super) enum Judgement {
    /// No rule affects it.
    Go,
    /// Its lane is paused: it returns to the lane.
    Stay,
    /// It must not make its call.
    Instead(Instead),
}

/// Checks the rules for a job that is about to request its slot.
pub(super) fn judge(rules: &Rules, held: &Held, now_ms: u64) -> Judgement {
    if held.state.cancelled {
        return Judgement::Instead(Instead::Cancel);
    }
    if held.is_given_up() {
        return Judgement::Instead(Instead::GiveUp { losses: held.state.losses });
    }
    match rules.decide(&held.subject(), now_ms) {
        Decision::Go => Judgement::Go,
        Decision::Cancel(_) => Judgement::Instead(Instead::Cancel),
        Decision::LanePaused(_) => Judgement::Stay,
        Decision::Pause(..) if held.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) => {
            Judgement::Instead(Instead::Expire)
        }
        Decision::Pause(rule, order) => {
            let until_ms = order.until_ms.unwrap_or(NO_END_MS).min(held.deadline_ms.unwrap_or(NO_END_MS));
            Judgement::Instead(Instead::Hold { by: Holder::Rule(rule), due_ms: until_ms })
        }
    }
}
