//! `/console/dead`: dead letters by what they have in common, and one by one.

pub(in crate::console) mod letter;
pub(in crate::console) mod plan;
mod planned;
pub(in crate::console) mod runs;
mod selection;

use self::selection::Selection;
use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::{Fields, link},
        file::file,
        shell::{Place, Shell},
        state::ConsoleState,
        text::{clock, count_of, grouped, shown},
        visitor::Visitor,
    },
    net::streamed,
    operations::{
        Error, MerchantScope,
        dead_letters::{
            self, DeadLetterSummary, Filter, Group, GroupBy, Groups, ListRequest, Reveal, export_to, runs::RunError,
        },
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
};
use std::sync::Arc;

/// Dead letters of one page.
const PAGE: usize = 50;
/// Groups of the page.
const GROUPS: usize = 12;
/// Over this time the page says how many came.
const LATELY: &str = "10m";

impl From<RunError> for ConsoleError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Operation(Error::NoDeadLetter) => Self::Refused {
                sentence: "none of these dead letters is left, or none of them can be moved".to_owned(),
                remedy: "Look at the list again.".to_owned(),
            },
            RunError::Operation(error) => error.into(),
            RunError::UnknownRun => Self::NotFound(error.to_string()),
            other => {
                Self::Refused { sentence: other.to_string(), remedy: other.remedy().unwrap_or_default().to_owned() }
            }
        }
    }
}

#[derive(Template)]
#[template(path = "dead/list.html")]
struct ListPage {
    shell: Shell,
    title: String,
    selection: Selection,
    may_operate: bool,
    total: u64,
    groups: Vec<GroupRow>,
    others: String,
    rows: Vec<Row>,
    /// The next page, of older ones; empty: there is none.
    older: String,
    download: String,
}

impl ListPage {
    fn fit(&self) -> String {
        count_of(self.total, "dead letter fits", "dead letters fit")
    }
}

struct GroupRow {
    count: u64,
    name: String,
    /// The list of this group alone; empty: no filter selects it.
    to: String,
}

impl GroupRow {
    fn new(group: &Group, selection: &Selection) -> Self {
        let of =
            |by: GroupBy| group.values.iter().find(|(other, _)| *other == by).and_then(|(_, value)| value.as_deref());
        let parts = [of(GroupBy::Type), of(GroupBy::Kind), of(GroupBy::HttpStatus)];
        let [job_type, kind, status] = parts.map(Option::unwrap_or_default);
        let narrowed = selection.with(&[("type", job_type), ("error", kind), ("http_status", status)]);
        Self {
            count: group.count,
            name: name_of(group),
            to: narrowed.filter(&MerchantScope::all()).map(|_| narrowed.list()).unwrap_or_default(),
        }
    }

    fn figure(&self) -> String {
        grouped(self.count)
    }
}

/// `CreateUser upstream 500`
fn name_of(group: &Group) -> String {
    let values: Vec<_> = group.values.iter().filter_map(|(_, value)| value.as_deref().map(shown)).collect();
    if values.is_empty() { "without a type or an error".to_owned() } else { values.join(" ") }
}

struct Row {
    at: String,
    id: String,
    to: String,
    job_type: String,
    error: String,
    message: String,
    batch: String,
    replayed: String,
    is_replayable: bool,
}

impl Row {
    fn new(letter: &DeadLetterSummary) -> Self {
        let kind = letter.error.kind.as_deref().map_or_else(|| "without an error".to_owned(), shown);
        let status = letter.error.http_status.map(|status| format!(" {status}")).unwrap_or_default();
        Self {
            at: shown(&letter.at),
            id: shown(&letter.id),
            to: link("/console/dead/letter", &[("id", &letter.id)]),
            job_type: shown(&letter.job_type),
            error: format!("{kind}{status}"),
            message: letter.error.message.as_deref().map(shown).unwrap_or_default(),
            batch: letter.batch.as_deref().map(shown).unwrap_or_default(),
            replayed: if letter.replay == 0 { String::new() } else { format!("{}×", letter.replay) },
            is_replayable: letter.replayable,
        }
    }

    fn clock(&self) -> &str {
        clock(&self.at)
    }

    fn day(&self) -> &str {
        self.at.get(..10).unwrap_or_default()
    }
}

/// The answer of the page, in one sentence or two.
fn title_of(selection: &Selection, groups: &Groups, lately: Option<u64>) -> String {
    if groups.total == 0 {
        return if selection.is_empty() { "No dead letters." } else { "No dead letter fits." }.to_owned();
    }
    let count = count_of(groups.total, "dead letter", "dead letters");
    let fit = match (selection.is_empty(), groups.total) {
        (true, _) => "",
        (false, 1) => " fits",
        (false, _) => " fit",
    };
    let more = match lately {
        Some(0) if groups.total == 1 => ", before the last 10 min".to_owned(),
        Some(0) => ", none of them from the last 10 min".to_owned(),
        Some(1) if groups.total == 1 => ", in the last 10 min".to_owned(),
        Some(more) if more == groups.total => ", all of them from the last 10 min".to_owned(),
        Some(more) => format!(", {} of them from the last 10 min", grouped(more)),
        None => String::new(),
    };
    let most = groups.groups.first().map(|group| format!(" Most: {}.", name_of(group))).unwrap_or_default();
    format!("{count}{fit}{more}.{most}")
}

/// Dead letters that fit: how many, in which groups, and the latest.
pub(in crate::console) async fn page(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Answer {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let selection = Selection::of(&fields);
    let filter = selection.filter(visitor.principal.merchants())?;
    let after = fields.get("cursor").map(str::parse).transpose().map_err(ConsoleError::Invalid)?;
    let mut backend = state.shared.backend_for_scans();
    let by = vec![GroupBy::Type, GroupBy::Kind, GroupBy::HttpStatus];
    let groups = dead_letters::group(&mut backend, &filter, by, GROUPS).await?;
    let lately = if filter.since.is_none() && filter.until.is_none() {
        let since = LATELY.parse().map_err(ConsoleError::Invalid)?;
        let filter = Filter { since: Some(since), ..filter.clone() };
        Some(dead_letters::group(&mut backend, &filter, Vec::new(), 1).await?.total)
    } else {
        None
    };
    let list = dead_letters::list(&mut backend, &ListRequest { filter, limit: PAGE, after }).await?.masked();
    let older = list.next.map(|next| selection.link(Place::Dead.path(), &[("cursor", &next.to_string())]));
    let page = ListPage {
        shell: Shell::new(&state, &visitor, Place::Dead),
        title: title_of(&selection, &groups, lately),
        may_operate: visitor.may_operate(),
        total: groups.total,
        groups: groups.groups.iter().map(|group| GroupRow::new(group, &selection)).collect(),
        others: groups.others.map(|others| grouped(others.count)).unwrap_or_default(),
        rows: list.dead_letters.iter().map(Row::new).collect(),
        older: older.unwrap_or_default(),
        download: selection.link("/console/dead/download", &[]),
        selection,
    };
    Ok(html(StatusCode::OK, &page))
}

/// All dead letters that fit as NDJSON, personal data masked.
pub(in crate::console) async fn download(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Answer {
    let selection = Selection::of(&Fields::parse(query.unwrap_or_default().as_bytes()));
    let filter = selection.filter(visitor.principal.merchants())?;
    let stream = visitor.principal.token.rate().stream().map_err(ConsoleError::TooMany)?;
    let body = streamed(async move |to| {
        let _stream = stream;
        let actor = visitor.principal.actor();
        export_to(&mut state.shared.backend_for_scans(), &actor, &filter, &Reveal::Masked, &to).await
    });
    Ok(file("application/x-ndjson", "dead-letters.ndjson", body))
}
