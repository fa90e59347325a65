//! `/console/dead/plan`, `/console/dead/start`: what a replay or a discard would do, then doing it.

use super::{
    planned::{Planned, must_be_typed},
    selection::Selection,
};
use crate::{
    config::parse_rate,
    console::{
        error::{Answer, ConsoleError, html},
        fields::Fields,
        form::{CSRF_FIELD, OperatorForm, is_typed},
        shell::{Place, Shell},
        state::ConsoleState,
        text::{grouped, shown, shown_json},
        visitor::Visitor,
    },
    operations::{
        Actor, Backend, Error,
        dead_letters::{
            self, Assignment, Changes, DeadStatus, Filter, ListRequest, Reveal, ShowRequest,
            replay::ReplayRequest,
            runs::{self, RunKind, StartRequest, Work},
        },
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The rate of a replay unless another is typed.
const RATE: &str = "50/s";
/// The name of a field for a pointer is this and the pointer.
const SET: &str = "set:";
/// The name of a box that removes what a pointer leads to is this and the pointer.
const UNSET: &str = "unset:";
/// Dead letters whose faults are looked at, to offer fields for them.
const LOOK_AT: usize = 5;
/// Maximum number of fields for pointers.
const MOST_FIELDS: usize = 30;
/// Fields that are no part of what was planned.
const NOT_PLANNED: [&str; 4] = [CSRF_FIELD, "plan", "typed", "as"];

#[derive(Template)]
#[template(path = "dead/plan.html")]
struct PlanPage {
    shell: Shell,
    planned: Planned,
    selection: Selection,
    words: String,
    rate: String,
    send_codes: bool,
    accept_doubt: bool,
    edits: Vec<EditField>,
    /// What is wrong with what was sent; empty: nothing.
    error: String,
    /// What the page was planned for: a form that differs is planned again.
    planned_as: String,
    /// The list that the plan came from.
    back: String,
}

/// A member of the jobs that can be set without being seen.
struct EditField {
    name: String,
    pointer: String,
    /// What is wrong with it, or its masked value.
    detail: String,
    value: String,
    /// The name of the box that removes it.
    unset: String,
    is_unset: bool,
}

/// What is asked for.
struct Asked {
    kind: RunKind,
    selection: Selection,
    rate: String,
    send_codes: bool,
    accept_doubt: bool,
    /// Values by pointer.
    set: BTreeMap<String, String>,
    /// Pointers of members to remove.
    unset: BTreeSet<String>,
}

impl Asked {
    fn of(fields: &Fields) -> Result<Self, ConsoleError> {
        let kind = match fields.get("kind") {
            Some("replay") => RunKind::Replay,
            Some("discard") => RunKind::Discard,
            _ => return Err(ConsoleError::Invalid("either replay or discard".to_owned())),
        };
        let named = fields.pairs().filter_map(|(name, value)| Some((name.strip_prefix(SET)?, value)));
        let added = fields.get("pointer").zip(fields.get("value"));
        let set = named.chain(added).map(|(pointer, value)| (pointer.to_owned(), value.to_owned()));
        Ok(Self {
            kind,
            selection: Selection::of(fields),
            rate: fields.get("rate").unwrap_or(RATE).to_owned(),
            send_codes: fields.has("send_codes"),
            accept_doubt: fields.has("accept_doubt"),
            set: set.collect(),
            unset: fields.pairs().filter_map(|(name, _)| Some(name.strip_prefix(UNSET)?.to_owned())).collect(),
        })
    }

    fn replay(&self, filter: Filter) -> Result<ReplayRequest, ConsoleError> {
        let invalid = ConsoleError::Invalid;
        let set = self.set.iter().map(|(pointer, value)| {
            // As on the command line: what is JSON is taken as JSON, anything else as text.
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into());
            Assignment::new(pointer, &value).map_err(invalid)
        });
        Ok(ReplayRequest {
            filter,
            changes: Changes {
                set: set.collect::<Result<_, _>>()?,
                unset: self.unset.iter().cloned().collect(),
                ..Changes::default()
            },
            send_codes: self.send_codes,
            accept_doubt: self.accept_doubt,
            rate: parse_rate(&self.rate).map_err(invalid)?,
            limit: None,
        })
    }
}

/// Plans. Changes nothing.
pub(in crate::console) async fn plan(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    show(&state, &visitor, &fields, StatusCode::OK, String::new()).await
}

/// Starts what was planned, if nothing of the form was changed since, and if the number is right where it must be typed.
pub(in crate::console) async fn start(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    let asked = Asked::of(&fields)?;
    if fields.get("as") != Some(digest(&fields).as_str()) {
        let error = "Something was changed. This is the plan now.".to_owned();
        return show(&state, &visitor, &fields, StatusCode::CONFLICT, error).await;
    }
    let id = fields.get("plan").unwrap_or_default();
    let mut backend = state.shared.backend_for_scans();
    let count = runs::planned_count(&mut backend, id, asked.kind).await?;
    if must_be_typed(asked.kind, count) && !is_typed(&fields, count) {
        let error = format!("To confirm, type the number {}. Nothing was done.", grouped(count));
        return show(&state, &visitor, &fields, StatusCode::BAD_REQUEST, error).await;
    }
    let work = Work::Plan { id: id.to_owned(), kind: asked.kind };
    let request = StartRequest { work, name: None, merchants: visitor.principal.merchants().clone() };
    let report = state.runs.start(&mut backend, &visitor.principal.actor(), request).await?;
    Ok(Redirect::to(&format!("/console/dead/runs/{}", report.run)).into_response())
}

async fn show(
    state: &ConsoleState,
    visitor: &Visitor,
    fields: &Fields,
    status: StatusCode,
    mut error: String,
) -> Answer {
    let mut asked = Asked::of(fields)?;
    let filter = asked.selection.filter(visitor.principal.merchants())?;
    let mut backend = state.shared.backend_for_scans();
    let mut is_faulty = false;
    let planned: Planned = match asked.kind {
        RunKind::Discard => runs::plan_discard(&mut backend, filter.clone()).await?.into(),
        RunKind::Replay => {
            let request = match asked.replay(filter.clone()) {
                Ok(request) => request,
                Err(wrong) => {
                    // What was typed stays; the plan is made without it.
                    error = format!("{wrong}.");
                    is_faulty = true;
                    let set = std::mem::take(&mut asked.set);
                    let plain = Asked { rate: RATE.to_owned(), ..asked };
                    let request = plain.replay(filter.clone())?;
                    asked = Asked { set, ..plain };
                    request
                }
            };
            runs::plan_replay(&mut backend, &state.config, request).await?.into()
        }
    };
    let edits = if planned.has_faults || !asked.set.is_empty() || !asked.unset.is_empty() {
        edit_fields(&mut backend, &visitor.principal.actor(), &filter, &planned, &asked).await?
    } else {
        Vec::new()
    };
    // After a faulty value the digest fits no form: it must be planned again.
    let planned_as = if is_faulty { String::new() } else { digest(fields) };
    let page = PlanPage {
        shell: Shell::new(state, visitor, Place::Dead),
        words: asked.selection.words(),
        rate: shown(fields.get("rate").unwrap_or(RATE)),
        send_codes: asked.send_codes,
        accept_doubt: asked.accept_doubt,
        back: asked.selection.list(),
        selection: asked.selection,
        planned,
        edits,
        error,
        planned_as,
    };
    Ok(html(status, &page))
}

/// A field for each pointer at which jobs have faults, and for each that was typed or is to be removed. No value of a job is shown.
async fn edit_fields(
    backend: &mut Backend<'_>,
    actor: &Actor,
    filter: &Filter,
    planned: &Planned,
    asked: &Asked,
) -> Result<Vec<EditField>, ConsoleError> {
    let mut details: BTreeMap<String, String> =
        asked.set.keys().chain(&asked.unset).map(|pointer| (pointer.clone(), String::new())).collect();
    details.extend(planned.invalid_at.clone());
    let rejected = Filter { status: vec![DeadStatus::Rejected], ..filter.clone() };
    let request = ListRequest { filter: rejected, limit: LOOK_AT, after: None };
    for letter in dead_letters::list(backend, &request).await?.dead_letters {
        let request = ShowRequest { id: &letter.id, merchants: &filter.merchants, reveal: Reveal::Masked };
        let report = match dead_letters::show(backend, actor, &request).await {
            Err(Error::UnknownDeadLetter) => continue,
            other => other?,
        };
        for letter in report.dead_letters {
            for field in letter.error["fields"].as_array().into_iter().flatten() {
                let Some(pointer) = field["pointer"].as_str() else { continue };
                let masked = letter.job.pointer(pointer).map(|value| format!(", such as {}", shown_json(value)));
                let detail = field["detail"].as_str().map(shown).unwrap_or_default();
                let detail = format!("{detail}{}", masked.unwrap_or_default());
                details.entry(pointer.to_owned()).or_insert(detail);
            }
        }
    }
    let fields = details.into_iter().take(MOST_FIELDS).map(|(pointer, detail)| EditField {
        name: format!("{SET}{pointer}"),
        value: asked.set.get(&pointer).cloned().unwrap_or_default(),
        unset: format!("{UNSET}{pointer}"),
        is_unset: asked.unset.contains(&pointer),
        pointer: shown(&pointer),
        detail,
    });
    Ok(fields.collect())
}

/// A digest of what a form asks for. A field for a pointer counts like the two fields for a further one.
fn digest(fields: &Fields) -> String {
    let mut pairs: Vec<_> = fields
        .pairs()
        .filter(|(name, _)| !NOT_PLANNED.contains(name) && !matches!(*name, "pointer" | "value" | "rate"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Some((pointer, value)) = fields.get("pointer").zip(fields.get("value")) {
        pairs.push((format!("{SET}{pointer}"), value.to_owned()));
    }
    pairs.push(("rate".to_owned(), fields.get("rate").unwrap_or(RATE).to_owned()));
    pairs.sort();
    let text = pairs
        .iter()
        .fold(String::new(), |text, (name, value)| format!("{text}{}:{name}{}:{value}", name.len(), value.len()));
    format!("{:x}", Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_the_one_that_was_planned_unless_something_was_changed() {
        let of = |text: &str| digest(&Fields::parse(text.as_bytes()));
        let planned = of("csrf=a&kind=replay&type=CheckUser&pointer=/args/email&value=x");
        assert_eq!(planned, of("set:/args/email=x&csrf=b&plan=p1.x&typed=9&as=1&rate=50/s&kind=replay&type=CheckUser"));
        for other in ["kind=discard&type=CheckUser", "kind=replay&type=CheckUser&send_codes=yes", "kind=replay"] {
            assert_ne!(planned, of(other));
            assert_ne!(of("kind=replay&type=CheckUser"), of(other), "{other}");
        }
    }
}
