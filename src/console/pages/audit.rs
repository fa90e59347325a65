//! `/console/audit`: what operators did.

use crate::{
    console::{
        error::{Answer, html},
        fields::{Fields, link},
        shell::{Place, Shell},
        sight::Sight,
        state::ConsoleState,
        text::{clock, grouped, shown},
        visitor::Visitor,
    },
    operations::audit::{self, AuditEntry},
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
};
use std::sync::Arc;

/// Actions of one page.
const PAGE: usize = 50;
/// Actions that a filter looks at.
const LOOK_AT: usize = 1_000;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
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
    let filter = Filter { who: text("who"), action: text("action"), at: text("at") };
    let actions = audit::list(&mut state.shared.backend(), LOOK_AT).await?;
    let shell = Shell::new(&state, &visitor, Place::Audit);
    Ok(html(StatusCode::OK, &AuditPage::new(shell, &actions, filter, Sight::of(&visitor))))
}

/// Which actions are shown. Empty texts fit all.
#[derive(Clone, Copy)]
struct Filter<'a> {
    who: &'a str,
    action: &'a str,
    at: &'a str,
}

impl AuditPage {
    fn new(shell: Shell, actions: &[AuditEntry], filter: Filter<'_>, sight: Sight) -> Self {
        let Filter { who, action, at } = filter;
        let looked_at = actions.len();
        let fits = |entry: &&AuditEntry| {
            entry.who.to_lowercase().contains(&who.to_lowercase())
                && entry.action.contains(action)
                && (at.is_empty() || entry.at.as_str() <= at)
        };
        let mut fitting = actions.iter().rev().filter(fits);
        let rows: Vec<_> = fitting.by_ref().take(PAGE).map(|entry| Row::new(entry, sight)).collect();
        let older =
            fitting.next().map(|next| link(Place::Audit.path(), &[("who", who), ("action", action), ("at", &next.at)]));
        let title = match rows.first() {
            None if who.is_empty() && action.is_empty() && at.is_empty() => {
                "No operator has done anything yet.".to_owned()
            }
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
            looked_at,
            older: older.unwrap_or_default(),
        }
    }
}

/// The page with these actions and this text in every field of the filter.
#[cfg(test)]
pub(in crate::console) fn rendered(shell: Shell, actions: &[AuditEntry], text: &str) -> Result<String, askama::Error> {
    let all = AuditPage::new(shell, actions, Filter { who: "", action: "", at: "" }, Sight::Full);
    AuditPage { who: shown(text), action: shown(text), at: shown(text), ..all }.render()
}
