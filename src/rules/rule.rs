//! One rule, and its form in Redis.

use crate::contract::{JobType, Lane, fingerprint};
use serde::{Deserialize, Serialize};

/// The action of a rule on the jobs it selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleAction {
    /// The jobs wait.
    Pause,
    /// The jobs complete as cancelled.
    Cancel,
}

impl RuleAction {
    /// Both actions.
    pub const ALL: [Self; 2] = [Self::Pause, Self::Cancel];

    /// The name used in rules and in the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Cancel => "cancel",
        }
    }
}

/// Selects the jobs that match every field that is set. `Debug` and [`Selector::redacted`] do not reveal the customer.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Selects jobs in this lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Selects jobs of this type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// Selects jobs with this effective caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Selects jobs about the customer with this reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Selects jobs of this batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Selects the job with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl std::fmt::Debug for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Selector({})", self.redacted())
    }
}

impl Selector {
    /// Whether every job is selected.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The selector for records. Callers and customers are replaced by fingerprints, which still show whether two
    /// records are about the same one.
    pub fn redacted(&self) -> serde_json::Value {
        let hidden = |text: &Option<String>| text.as_deref().map(fingerprint);
        let told = Self { caller: hidden(&self.caller), customer: hidden(&self.customer), ..self.clone() };
        // All values are strings, so serialisation cannot fail.
        serde_json::to_value(told).unwrap_or_default()
    }

    /// The selector for messages, such as `lane bulk, type CheckUser`, or `everything`.
    pub fn describe(&self) -> String {
        let fields = [
            ("lane", self.lane.map(Lane::as_str)),
            ("type", self.job_type.map(JobType::as_str)),
            ("caller", self.caller.as_deref()),
            ("customer", self.customer.as_deref()),
            ("batch", self.batch.as_deref()),
            ("job", self.id.as_deref()),
        ];
        let set: Vec<_> =
            fields.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value}"))).collect();
        if set.is_empty() { "everything".to_owned() } else { set.join(", ") }
    }
}

/// Who created a rule, and when. Times are in milliseconds on Redis's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOrigin {
    /// The operator who created the rule.
    pub who: String,
    /// The host from which the rule was created.
    pub from: String,
    /// When the rule was created.
    pub at_ms: u64,
    /// When the rule ends by itself. `None` means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl RuleOrigin {
    /// Whether the rule is still in force at `now_ms`.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until_ms| now_ms < until_ms)
    }
}

/// A pause or a cancellation, with the jobs it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What happens to the selected jobs.
    pub verb: RuleAction,
    /// Which jobs are selected.
    pub selector: Selector,
    /// Who created the rule, and until when it lasts.
    pub order: RuleOrigin,
}

impl Rule {
    /// The name of a rule. The same jobs always have the same name, so that a second rule replaces the first.
    pub fn name(verb: RuleAction, selector: &Selector) -> String {
        // All values are strings, so serialisation cannot fail.
        format!("{} {}", verb.as_str(), serde_json::to_string(selector).unwrap_or_default())
    }

    /// The value that Redis stores for the rule's name.
    pub fn value(&self) -> String {
        serde_json::to_string(&self.order).unwrap_or_default()
    }

    /// Parses a rule from Redis. Returns `None` if the text is not a rule.
    pub fn parse(name: &str, value: &str) -> Option<Self> {
        let (verb, selector) = name.split_once(' ')?;
        Some(Self {
            verb: RuleAction::ALL.into_iter().find(|known| known.as_str() == verb)?,
            selector: serde_json::from_str(selector).ok()?,
            order: serde_json::from_str(value).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn order() -> RuleOrigin {
        RuleOrigin { who: "ada".to_owned(), from: "box".to_owned(), at_ms: 7, until_ms: None, reason: None }
    }

    #[test]
    fn a_rule_survives_redis_and_its_name_is_its_selection() {
        let selector = Selector { lane: Some(Lane::Bulk), caller: Some("a \"b\"".to_owned()), ..Selector::default() };
        let rule = Rule { verb: RuleAction::Pause, selector, order: order() };
        let name = Rule::name(rule.verb, &rule.selector);
        assert_eq!(name, r#"pause {"lane":"bulk","caller":"a \"b\""}"#);
        assert_eq!(Rule::parse(&name, &rule.value()).unwrap(), rule);
        for wrong in ["", "pause", "pause {", "stop {}", r#"pause {"colour":"red"}"#, r#"cancel {"lane":"x"}"#] {
            assert_eq!(Rule::parse(wrong, &rule.value()), None, "{wrong}");
        }
        assert_eq!(Rule::parse("pause {}", "{}"), None);
    }

    #[test]
    fn records_tell_no_caller_and_no_customer() {
        let caller = Some("192.0.2.7".to_owned());
        let selector =
            Selector { caller: caller.clone(), customer: caller, batch: Some("b".to_owned()), ..Selector::default() };
        let told = format!("{} {selector:?}", selector.redacted());
        assert!(!told.contains("192.0.2.7") && told.contains("sha256:") && told.contains("\"batch\":\"b\""), "{told}");
        assert_eq!(selector.describe(), "caller 192.0.2.7, customer 192.0.2.7, batch b");
        assert_eq!(Selector::default().describe(), "everything");
    }
}
