//! The limits of `/console/rules`: those in force, and their changes.

use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::Fields,
        form::OperatorForm,
        shell::{Place, Shell},
        state::ConsoleState,
        text::{clock, shown},
    },
    operations::{
        limits::{
            self, LimitChange, LimitError, LimitName, LimitReport, LimitSetting, LimitsReport, ResetRequest, SetRequest,
        },
        pauses::check_reason,
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use std::sync::Arc;

/// The name of the number of worker slots.
const CONCURRENCY: &str = LimitSetting::Concurrency.as_str();
/// Where a value comes from that no operator changed.
const FILE: &str = "file";

/// A limit, or the concurrency.
pub(super) struct LimitRow {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) value: String,
    /// Who changed it; empty: nobody.
    pub(super) who: String,
    pub(super) at: String,
    pub(super) reason: String,
    /// What the configuration says; empty where it is in force.
    pub(super) configured: String,
}

impl LimitRow {
    /// The limits of a report, in its order.
    pub(super) fn all(report: &LimitsReport) -> Vec<Self> {
        let mut rows: Vec<_> = report.limits.iter().map(Self::limit).collect();
        let slots = &report.concurrency;
        rows.push(Self {
            name: CONCURRENCY,
            what: "jobs at a time of each worker",
            value: slots.value.to_string(),
            who: who(&slots.from),
            at: slots.at.as_deref().map(shown).unwrap_or_default(),
            reason: slots.reason.as_deref().map(shown).unwrap_or_default(),
            configured: slots.file.map(|file| file.to_string()).unwrap_or_default(),
        });
        rows
    }

    fn limit(limit: &LimitReport) -> Self {
        let what = match limit.name {
            "caller" => "calls of each caller",
            "client" => "calls without a caller",
            _ => "all calls",
        };
        Self {
            name: limit.name,
            what,
            value: rate_of(limit.rate.as_deref(), limit.burst),
            who: who(&limit.from),
            at: limit.at.as_deref().map(shown).unwrap_or_default(),
            reason: limit.reason.as_deref().map(shown).unwrap_or_default(),
            configured: limit.file.as_ref().map(|file| rate_of(file.rate.as_deref(), file.burst)).unwrap_or_default(),
        }
    }

    pub(super) fn is_changed(&self) -> bool {
        !self.who.is_empty()
    }

    pub(super) fn clock(&self) -> &str {
        clock(&self.at)
    }
}

fn who(from: &str) -> String {
    if from == FILE { String::new() } else { shown(from) }
}

/// `100/s, burst 20`
fn rate_of(rate: Option<&str>, burst: Option<u32>) -> String {
    let burst = burst.map(|burst| format!(", burst {burst}")).unwrap_or_default();
    rate.map_or_else(|| "no limit".to_owned(), |rate| format!("{rate}{burst}"))
}

/// What a form asks for.
enum Wanted {
    Set(Vec<LimitChange>),
    Reset(Vec<LimitSetting>),
}

impl Wanted {
    fn of(fields: &Fields) -> Result<Self, ConsoleError> {
        let name = fields.get("name").unwrap_or_default();
        let limit = LimitName::parse(name);
        if name != CONCURRENCY && limit.is_none() {
            return Err(ConsoleError::Invalid("there is no such limit".to_owned()));
        }
        if fields.get("act") == Some("reset") {
            let settings =
                limit.map_or_else(|| vec![LimitSetting::Concurrency], |name| vec![name.rate(), name.burst()]);
            return Ok(Self::Reset(settings));
        }
        let typed = match limit {
            Some(limit) => vec![(limit.rate(), fields.get("rate")), (limit.burst(), fields.get("burst"))],
            None => vec![(LimitSetting::Concurrency, fields.get("value"))],
        };
        let changes = typed.into_iter().filter_map(|(setting, typed)| Some((setting, typed?)));
        let changes: Vec<_> =
            changes.map(|(setting, typed)| LimitChange::parse(setting.as_str(), typed)).collect::<Result<_, _>>()?;
        if changes.is_empty() {
            return Err(LimitError::NothingNamed.into());
        }
        Ok(Self::Set(changes))
    }
}

impl From<LimitError> for ConsoleError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::Queue(error) => Self::Operation(error),
            wrong => {
                let remedy = wrong.remedy().map(|remedy| format!(": {remedy}")).unwrap_or_default();
                Self::Invalid(format!("{wrong}{remedy}"))
            }
        }
    }
}

fn reason(fields: &Fields) -> Result<Option<String>, ConsoleError> {
    let checked = fields.get("reason").map(check_reason).transpose();
    checked.map_err(|wanted| ConsoleError::Invalid(format!("a reason {wanted}")))
}

#[derive(Template)]
#[template(path = "rules/limit.html")]
struct PlanPage {
    shell: Shell,
    title: String,
    now: String,
    then: String,
    reason: String,
    is_reset: bool,
    /// The fields of the form, for the form that confirms it.
    fields: Vec<(&'static str, String)>,
}

/// What a change would do. Changes nothing.
pub(in crate::console) async fn plan(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let wanted = Wanted::of(&fields)?;
    let reason = reason(&fields)?.unwrap_or_default();
    let report = limits::list(&mut state.shared.backend(), &state.config).await?;
    let name = fields.get("name").unwrap_or_default();
    let row = LimitRow::all(&report).into_iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| ConsoleError::NotFound("there is no such limit".to_owned()))?;
    let (title, then) = match &wanted {
        Wanted::Set(changes) => {
            let changes: Vec<_> = changes.iter().map(|change| format!("{} {}", change.setting, change.value)).collect();
            (format!("Set {}?", changes.join(", ")), changes.join(", "))
        }
        Wanted::Reset(_) if row.is_changed() => (format!("Reset {name}?"), row.configured.clone()),
        Wanted::Reset(_) => {
            return Err(ConsoleError::Refused {
                sentence: format!("{name} is as the configuration says"),
                remedy: "There is nothing to reset.".to_owned(),
            });
        }
    };
    let names = ["act", "name", "rate", "burst", "value", "reason"];
    let page = PlanPage {
        shell: Shell::new(&state, &visitor, Place::Rules),
        title,
        now: row.value,
        then,
        reason: shown(&reason),
        is_reset: matches!(wanted, Wanted::Reset(_)),
        fields: names.into_iter().filter_map(|name| Some((name, fields.get(name)?.to_owned()))).collect(),
    };
    Ok(html(StatusCode::OK, &page))
}

/// Changes a limit, and waits until the workers know it.
pub(in crate::console) async fn change(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let (wanted, reason) = (Wanted::of(&fields)?, reason(&fields)?);
    // A raised limit looks at all waiting jobs.
    let (mut backend, actor) = (state.shared.backend_for_scans(), visitor.principal.actor());
    match wanted {
        Wanted::Set(changes) => {
            limits::set(&mut backend, &state.config, &actor, &SetRequest { changes, reason }).await?;
        }
        Wanted::Reset(settings) => {
            limits::reset(&mut backend, &state.config, &actor, &ResetRequest { settings, reason }).await?;
        }
    }
    Ok(Redirect::to("/console/rules?did=limit").into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_form_sets_or_resets_one_limit() {
        let of = |text: &str| Wanted::of(&Fields::parse(text.as_bytes()));
        let set = |text: &str| match of(text) {
            Ok(Wanted::Set(changes)) => changes.iter().map(|change| change.setting.to_string()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(set("name=total&rate=100/s&burst="), ["total.rate"]);
        assert_eq!(set("name=caller&rate=10/s&burst=20&value=7"), ["caller.rate", "caller.burst"]);
        assert_eq!(set("name=concurrency&value=64"), ["concurrency"]);
        assert!(matches!(of("name=total&act=reset&rate=1/s"), Ok(Wanted::Reset(settings)) if settings.len() == 2));
        for wrong in ["", "name=all&rate=1/s", "name=total", "name=total&rate=fast", "name=concurrency&value=0"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
