//! What operators did.

use super::{Backend, Error};
use crate::{
    contract::{EntryId, format_ms},
    queue::find::{self, TextEntry},
};
use serde::Serialize;
use serde_json::Value;
use std::{fmt, str::FromStr};

/// Maximum number of actions of one page.
pub const MOST_LISTED: usize = 1_000;
/// Maximum number of actions that are read for one page.
const LOOK_AT_MOST: usize = 20_000;
/// Number of actions that are read at once where not all fit.
const STEP: usize = 1_000;

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

impl AuditEntry {
    fn new((entry, mut fields): TextEntry) -> Self {
        let mut field = |name: &str| fields.remove(name).unwrap_or_default();
        let what = field("what");
        Self {
            at: format_ms(entry.ms),
            who: field("who"),
            from: field("from"),
            action: field("action"),
            count: field("count").parse().unwrap_or(0),
            what: serde_json::from_str(&what).unwrap_or(Value::String(what)),
        }
    }
}

/// Which actions are listed. Every field that is set must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// A part of the person's or the token's name, in upper or lower case.
    pub who: Option<String>,
    /// A part of the action's name.
    pub action: Option<String>,
    /// Actions up to this time, in milliseconds since 1970.
    pub up_to_ms: Option<u64>,
}

impl AuditFilter {
    /// Whether every action up to the time fits.
    const fn is_open(&self) -> bool {
        self.who.is_none() && self.action.is_none()
    }

    fn fits(&self, entry: &AuditEntry) -> bool {
        self.who.as_ref().is_none_or(|who| entry.who.to_lowercase().contains(&who.to_lowercase()))
            && self.action.as_ref().is_none_or(|action| entry.action.contains(action.as_str()))
    }
}

/// Which page of the audit is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRequest {
    /// Those that fit.
    pub filter: AuditFilter,
    /// Maximum number of actions; at most [`MOST_LISTED`].
    pub limit: usize,
    /// Begin after this place; `None`: with the latest action.
    pub cursor: Option<AuditCursor>,
}

/// One page of the audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditPage {
    /// Actions, the latest first.
    pub actions: Vec<AuditEntry>,
    /// How many actions were read for it.
    pub looked_at: usize,
    /// The oldest action that is kept was read. Otherwise `cursor` goes on.
    pub complete: bool,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<AuditCursor>,
}

/// A place in the audit. Its text is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor(EntryId);

/// Marks the form of a cursor's text.
const FORM: &str = "a1.";

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}{}", self.0)
    }
}

impl FromStr for AuditCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entry = text.strip_prefix(FORM).and_then(|entry| entry.parse().ok());
        entry.map(Self).ok_or_else(|| "a cursor that a page of the audit returned".to_owned())
    }
}

impl Serialize for AuditCursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The last `count` actions, the oldest of them first.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>, count: usize) -> Result<Vec<AuditEntry>, Error> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let mut actions = find::page_back(&mut backend.link, &keys.audit, None, count).await.map_err(failed)?;
    actions.reverse();
    Ok(actions.into_iter().map(AuditEntry::new).collect())
}

/// One page of the actions that fit, the latest first. Reads at most 20,000 actions, a thousand at a time.
///
/// # Errors
/// [`Error::Redis`].
pub async fn page(backend: &mut Backend<'_>, request: &AuditRequest) -> Result<AuditPage, Error> {
    let AuditRequest { filter, limit, cursor } = request;
    let limit = (*limit).clamp(1, MOST_LISTED);
    let after_it = |ms: u64| EntryId { ms: ms.saturating_add(1), seq: 0 };
    let mut before = cursor.map(|cursor| cursor.0);
    if let Some(newest) = filter.up_to_ms.map(after_it) {
        before = Some(before.map_or(newest, |before| before.min(newest)));
    }
    let mut page = AuditPage { actions: Vec::new(), looked_at: 0, complete: false, cursor: None };
    let keys = backend.common_keys();
    while page.looked_at < LOOK_AT_MOST {
        let step = if filter.is_open() { limit - page.actions.len() + 1 } else { STEP };
        let failed = backend.failed();
        let read = find::page_back(&mut backend.link, &keys.audit, before, step).await.map_err(failed)?;
        let is_last = read.len() < step;
        for entry in read {
            if page.actions.len() == limit {
                page.cursor = before.map(AuditCursor);
                return Ok(page);
            }
            before = Some(entry.0);
            page.looked_at += 1;
            let entry = AuditEntry::new(entry);
            if filter.fits(&entry) {
                page.actions.push(entry);
            }
        }
        if is_last {
            page.complete = true;
            return Ok(page);
        }
    }
    page.cursor = before.map(AuditCursor);
    Ok(page)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = AuditCursor(EntryId { ms: 1_795_374_676_077, seq: 3 });
        assert_eq!(cursor.to_string(), "a1.1795374676077-3");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "a1.", "a1.x", "1-1", "c1.1-1", "a1.-"] {
            assert!(wrong.parse::<AuditCursor>().is_err(), "{wrong}");
        }
    }
}
