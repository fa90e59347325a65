//! What operators did.

use super::{Backend, Error};
use crate::{contract::format_ms, queue::find};
use serde::Serialize;
use serde_json::Value;

/// One action of an operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditEntry {
    /// When, RFC 3339, on Redis's clock.
    pub at: String,
    /// Who.
    pub who: String,
    /// From which host or address.
    pub from: String,
    /// What was done: `pause`, `dead replay`, …
    pub action: String,
    /// To what: flags and filters, without personal data.
    pub what: Value,
    /// How many jobs, dead letters or rules it was about.
    pub count: u64,
}

/// The last `count` actions, the oldest of them first.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>, count: usize) -> Result<Vec<AuditEntry>, Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let mut actions = find::page_back(&mut backend.link, &keys.audit, None, count).await.map_err(failed)?;
    actions.reverse();
    let entries = actions.into_iter().map(|(entry, mut fields)| {
        let mut field = |name: &str| fields.remove(name).unwrap_or_default();
        let what = field("what");
        AuditEntry {
            at: format_ms(entry.ms),
            who: field("who"),
            from: field("from"),
            action: field("action"),
            count: field("count").parse().unwrap_or(0),
            what: serde_json::from_str(&what).unwrap_or(Value::String(what)),
        }
    });
    Ok(entries.collect())
}
