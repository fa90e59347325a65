//! `/console/audit`: what operators did.

use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::{Fields, link},
        shell::{Place, Shell},
        sight::Sight,
        state::ConsoleState,
        text::{clock, grouped, shown},
        visitor::Visitor,
    },
    operations::audit::{self, AuditCursor, AuditEntry, AuditFilter, AuditPage, AuditRequest},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
};
use std::sync::Arc;

/// Actions of one page.
const PAGE: usize = 50;
/// The time that a shorter one begins.
const FULL_TIME: &str = "2026-01-01T23:59:59.999Z";

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditTemplate {
    shell: Shell,
    title: String,
    who: String,
    action: String,
    /// A time; the page shows what was done up to it.
    at: String,
    rows: Vec<Row>,
    looked_at: usize,
    /// The next page, of older actions; empty: there is none.
    older: String,
}

struct Row {
    at: String,
    who: String,
    from: String,
    action: String,
    what: String,
    count: String,
    /// Personal data was shown.
    is_reveal: bool,
}

impl Row {
    fn new(entry: &AuditEntry, sight: Sight) -> Self {
        let is_reveal = entry.what.get("revealed").is_some() || entry.what.get("reason").is_some();
        Self {
            at: entry.at.clone(),
            who: shown(&entry.who),
            from: shown(&entry.from),
            action: shown(&entry.action),
            what: sight.audited(&entry.what),
            count: grouped(entry.count),
            is_reveal: is_reveal && entry.action.starts_with("dead"),
        }
    }

    fn clock(&self) -> &str {
        clock(&self.at)
    }

    fn day(&self) -> &str {
        self.at.get(..10).unwrap_or_default()
    }
}

/// The actions that fit, the latest first.
pub(in crate::console) async fn page(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let text = |name| fields.get(name).unwrap_or_default();
    let typed = Typed { who: text("who"), action: text("action"), at: text("at") };
    let cursor = fields.get("cursor").map(str::parse::<AuditCursor>).transpose();
    let cursor = cursor.map_err(|_| ConsoleError::Invalid("this is no place in the audit".to_owned()))?;
    let request = AuditRequest { filter: typed.filter()?, limit: PAGE, cursor };
    let actions = audit::page(&mut state.shared.backend(), &request).await?;
    let shell = Shell::new(&state, &visitor, Place::Audit);
    Ok(html(StatusCode::OK, &AuditTemplate::new(shell, &actions, typed, Sight::of(&visitor))))
}

/// What was typed into the filter. Empty texts fit all.
#[derive(Clone, Copy)]
struct Typed<'a> {
    who: &'a str,
    action: &'a str,
    at: &'a str,
}

impl Typed<'_> {
    fn filter(self) -> Result<AuditFilter, ConsoleError> {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let up_to_ms = text(self.at).map(|at| up_to_ms(&at)).transpose()?;
        Ok(AuditFilter { who: text(self.who), action: text(self.action), up_to_ms })
    }

    const fn is_empty(self) -> bool {
        self.who.is_empty() && self.action.is_empty() && self.at.is_empty()
    }
}

/// The end of a time that may be cut: `2026-01-31T03:12` is the whole minute.
fn up_to_ms(at: &str) -> Result<u64, ConsoleError> {
    let rest = FULL_TIME.get(at.len()..).unwrap_or_default();
    let ms = [format!("{at}{rest}"), at.to_owned()].iter().find_map(|at| at.parse::<jiff::Timestamp>().ok());
    ms.and_then(|at| u64::try_from(at.as_millisecond()).ok())
        .ok_or_else(|| ConsoleError::Invalid("a time is like 2026-01-31T03:12".to_owned()))
}

impl AuditTemplate {
    fn new(shell: Shell, page: &AuditPage, typed: Typed<'_>, sight: Sight) -> Self {
        let Typed { who, action, at } = typed;
        let rows: Vec<_> = page.actions.iter().map(|entry| Row::new(entry, sight)).collect();
        let older = page.cursor.map(|cursor| {
            link(Place::Audit.path(), &[("who", who), ("action", action), ("at", at), ("cursor", &cursor.to_string())])
        });
        let title = match rows.first() {
            None if typed.is_empty() && page.complete => "No operator has done anything yet.".to_owned(),
            None if !page.complete => "None of these actions fits; older ones may.".to_owned(),
            None => "No action fits.".to_owned(),
            Some(first) => {
                format!("The last action: {} did “{}” at {} UTC.", first.who, first.action, first.clock())
            }
        };
        Self {
            shell,
            title,
            who: shown(who),
            action: shown(action),
            at: shown(at),
            rows,
            looked_at: page.looked_at,
            older: older.unwrap_or_default(),
        }
    }
}

/// The page with these actions and this text in every field of the filter.
#[cfg(test)]
pub(in crate::console) fn rendered(shell: Shell, actions: &[AuditEntry], text: &str) -> Result<String, askama::Error> {
    let page = AuditPage { actions: actions.to_vec(), looked_at: actions.len(), complete: true, cursor: None };
    let all = AuditTemplate::new(shell, &page, Typed { who: "", action: "", at: "" }, Sight::Full);
    AuditTemplate { who: shown(text), action: shown(text), at: shown(text), ..all }.render()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_that_is_cut_ends_with_its_last_moment() {
        let ms = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        for (typed, wanted) in [
            ("2026-01-31T03:12:28.001Z", "2026-01-31T03:12:28.001Z"),
            ("2026-01-31T03:12", "2026-01-31T03:12:59.999Z"),
            ("2026-01-31", "2026-01-31T23:59:59.999Z"),
            ("2026-01-31T03:12:28Z", "2026-01-31T03:12:28.000Z"),
        ] {
            assert_eq!(i64::try_from(up_to_ms(typed).unwrap()).unwrap(), ms(wanted), "{typed}");
        }
        assert!(up_to_ms("soon").is_err() && up_to_ms("é").is_err());
    }
}
