//! What a visitor sees of people: masking, in one place, before anything is rendered.

use super::{text::shown, visitor::Visitor};
use crate::{config::GatewayRole, contract::fingerprint, operations::Selector};
use serde_json::Value;

/// How much a visitor sees of callers and references. Nobody sees more of a person without a reason that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Callers and references as they are: the role `operate`.
    Full,
    /// Callers and references as fingerprints.
    Masked,
}

impl Sight {
    pub(super) fn of(visitor: &Visitor) -> Self {
        if visitor.principal.has(GatewayRole::Operate) { Self::Full } else { Self::Masked }
    }

    /// A caller or a customer's reference.
    pub(super) fn caller(self, caller: &str) -> String {
        match self {
            Self::Full => shown(caller),
            Self::Masked => fingerprint(caller),
        }
    }

    /// The jobs that a rule covers, in words: `type CreateUser, batch spring`.
    pub(super) fn selector(self, jobs: &Selector) -> String {
        if jobs.is_everything() {
            return "everything".to_owned();
        }
        let Selector { lane, job_type, caller, customer, batch, id } = jobs;
        let parts = [
            lane.map(|lane| format!("lane {lane}")),
            job_type.map(|job_type| format!("type {}", job_type.as_str())),
            caller.as_deref().map(|caller| format!("caller {}", self.caller(caller))),
            customer.as_deref().map(|customer| format!("customer {}", self.caller(customer))),
            batch.as_deref().map(|batch| format!("batch {}", shown(batch))),
            id.as_deref().map(|id| format!("job {}", shown(id))),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What an action of the audit was about, in words: `type CreateUser · rate 50/s`. The audit has fingerprints already.
    pub(super) fn audited(self, what: &Value) -> String {
        let mut parts = Vec::new();
        self.flatten("", what, &mut parts);
        parts.join(" · ")
    }

    fn flatten(self, name: &str, value: &Value, parts: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| self.flatten(name, value, parts)),
            Value::Null => {}
            Value::Array(values) if values.is_empty() => {}
            value => {
                let text = match value {
                    Value::String(text) => shown(text),
                    // The first and the last status of a range.
                    Value::Array(values) if name == "http_status" && values.len() == 2 => {
                        if values[0] == values[1] {
                            values[0].to_string()
                        } else {
                            format!("{} to {}", values[0], values[1])
                        }
                    }
                    Value::Array(values) => {
                        let texts = values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), shown));
                        texts.collect::<Vec<_>>().join(", ")
                    }
                    other => other.to_string(),
                };
                let is_person = matches!(name, "caller" | "customer" | "caller_id" | "customer_reference" | "email");
                let text = if is_person && self == Self::Masked && !text.starts_with("sha256:") {
                    fingerprint(&text)
                } else {
                    text
                };
                parts.push(if name.is_empty() { text } else { format!("{} {text}", shown(name)) });
            }
        }
    }
}
