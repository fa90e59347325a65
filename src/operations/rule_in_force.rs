//! Operators' rules that are in force, for reports.

use crate::{
    contract::format_ms,
    rules::{RuleAction, RuleSet, Selector},
};
use serde::Serialize;

/// A pause or cancellation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleInForce {
    /// `pause` or `cancel`.
    pub order: &'static str,
    /// The jobs that it covers.
    pub jobs: Selector,
    /// Who ordered it.
    pub who: String,
    /// From which host or address.
    pub from: String,
    /// When, RFC 3339.
    pub at: String,
    /// When it ends by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// All rules that are in force at `now_ms`: pauses first, because they stop jobs; of each kind the latest first.
pub(super) fn rules_in_force(rules: &RuleSet, now_ms: u64) -> Vec<RuleInForce> {
    let mut holding: Vec<_> = rules.all().filter(|(_, _, order)| order.holds(now_ms)).collect();
    holding.sort_by_key(|(verb, _, order)| (*verb == RuleAction::Cancel, std::cmp::Reverse(order.at_ms)));
    let shown = holding.into_iter().map(|(verb, selector, order)| RuleInForce {
        order: verb.as_str(),
        jobs: selector.clone(),
        who: order.who.clone(),
        from: order.from.clone(),
        at: format_ms(order.at_ms),
        until: order.until_ms.map(format_ms),
        reason: order.reason.clone(),
    });
    shown.collect()
}
