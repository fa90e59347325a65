//! `/console/rules`: pauses, cancellations and limits in force; pausing jobs, and ending what is in force.

use super::limits::LimitRow;
use crate::{
    config::parse_duration,
    console::{
        error::{Answer, ConsoleError, html},
        fields::Fields,
        form::OperatorForm,
        selection::{fields_of, selector},
        shell::{Place, Shell},
        sight::Sight,
        state::ConsoleState,
        text::{clock, count_of, shown},
        visitor::Visitor,
    },
    contract::{JobType, is_unprintable},
    operations::{
        RuleInForce, age, jobs, limits,
        pauses::{self, IN_FORCE_WITHIN, MAX_REASON, PauseRequest},
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use std::{sync::Arc, time::Duration};

/// The values of the choice of an end. The first is the default; the last is no duration.
const LASTING: [(&str, &str); 6] = [
    ("10m", "10 minutes"),
    ("30m", "30 minutes"),
    ("1h", "1 hour"),
    ("6h", "6 hours"),
    ("24h", "24 hours"),
    (UNTIL_ENDED, "until somebody ends it"),
];
const UNTIL_ENDED: &str = "ended";
/// What must be typed before everything is paused.
const EVERYTHING: &str = "everything";
/// The order of a rule that cancels.
const CANCEL: &str = "cancel";
/// Rules of the page.
const PAGE: usize = 200;

#[derive(Template)]
#[template(path = "rules/list.html")]
struct RulesPage {
    shell: Shell,
    title: String,
    /// What was just done; empty: nothing.
    did: &'static str,
    in_force: String,
    rules: Vec<Row>,
    limits: Vec<LimitRow>,
    more: String,
    may_operate: bool,
    types: [&'static str; 5],
    lasting: [(&'static str, &'static str); 6],
}

struct Row {
    is_pause: bool,
    jobs: String,
    who: String,
    at: String,
    until: String,
    reason: String,
    /// The fields of its selector, for the form that ends it. They may be about a person: only for the role `operate`.
    fields: Vec<(&'static str, String)>,
}

impl Row {
    fn new(rule: &RuleInForce, sight: Sight) -> Self {
        Self {
            is_pause: rule.order == "pause",
            jobs: sight.selector(&rule.jobs),
            who: shown(&rule.who),
            at: shown(&rule.at),
            until: rule.until.as_deref().map(shown).unwrap_or_default(),
            reason: rule.reason.as_deref().map(shown).unwrap_or_default(),
            fields: if sight == Sight::Full { fields_of(&rule.jobs) } else { Vec::new() },
        }
    }

    fn order(&self) -> &'static str {
        if self.is_pause { "pause" } else { CANCEL }
    }

    fn at_clock(&self) -> &str {
        clock(&self.at)
    }

    fn until_clock(&self) -> &str {
        clock(&self.until)
    }
}

#[derive(Template)]
#[template(path = "rules/plan.html")]
struct PlanPage {
    shell: Shell,
    error: String,
    jobs: String,
    fields: Vec<(&'static str, String)>,
    lasting: String,
    /// In words.
    ends: String,
    reason: String,
    is_everything: bool,
}

#[derive(Template)]
#[template(path = "rules/end.html")]
struct EndPage {
    shell: Shell,
    is_pause: bool,
    jobs: String,
    fields: Vec<(&'static str, String)>,
}

/// What is asked for, from the form.
fn request(fields: &Fields) -> Result<PauseRequest, ConsoleError> {
    let lasting = match fields.get("for").unwrap_or(LASTING[0].0) {
        UNTIL_ENDED => None,
        text => Some(parse_duration(text).map_err(ConsoleError::Invalid)?),
    };
    let reason = fields.get("reason").map(str::to_owned);
    if reason.as_deref().is_some_and(|reason| reason.chars().count() > MAX_REASON || reason.chars().any(is_unprintable))
    {
        return Err(ConsoleError::Invalid(format!("a reason is one line of at most {MAX_REASON} characters")));
    }
    Ok(PauseRequest { jobs: selector(fields)?, lasting, reason })
}

/// The rules in force.
pub(in crate::console) async fn page(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let mut backend = state.shared.backend();
    let rules = pauses::list_rules(&mut backend).await?;
    let in_force = pauses::in_force(&mut backend, Duration::ZERO).await?;
    let limits = limits::list(&mut backend, &state.config).await?;
    let sight = Sight::of(&visitor);
    let hidden = u64::try_from(rules.len().saturating_sub(PAGE)).unwrap_or(0);
    let page = RulesPage {
        shell: Shell::new(&state, &visitor, Place::Rules),
        title: title_of(&rules, sight),
        did: match fields.get("did") {
            Some("pause") => "The pause is set.",
            Some("end") => "The pause has ended: what it held goes on in its order.",
            Some("none") => "There was no such rule any more.",
            Some("cancel") => "The cancellation is in force: delayed jobs end now, the others as they come up.",
            Some("uncancel") => "The cancellation has ended: jobs that had not come up yet go on.",
            Some("limit") => "The limit is changed.",
            _ => "",
        },
        in_force: in_force.to_string(),
        rules: rules.iter().take(PAGE).map(|rule| Row::new(rule, sight)).collect(),
        limits: LimitRow::all(&limits),
        more: if hidden > 0 { count_of(hidden, "more rule", "more rules") } else { String::new() },
        may_operate: visitor.may_operate(),
        types: JobType::ALL.map(JobType::as_str),
        lasting: LASTING,
    };
    Ok(html(StatusCode::OK, &page))
}

fn title_of(rules: &[RuleInForce], sight: Sight) -> String {
    let is_pause = |rule: &&RuleInForce| rule.order == "pause";
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let count = rules.iter().filter(is_pause).count();
    let cancelled = match number(rules.len() - count) {
        0 => String::new(),
        count => format!(" {} in force.", count_of(count, "cancellation is", "cancellations are")),
    };
    let paused = match (count, rules.iter().find(is_pause)) {
        (0, _) | (_, None) => "Nothing is paused.".to_owned(),
        (1, Some(rule)) => {
            let until = rule.until.as_deref().map(|until| format!(" until {} UTC", clock(until)));
            let until = until.unwrap_or_else(|| ", without an end".to_owned());
            format!("Paused: {}{until}.", sight.selector(&rule.jobs))
        }
        (count, _) => format!("{} in force.", count_of(number(count), "pause is", "pauses are")),
    };
    format!("{paused}{cancelled}")
}

/// What a pause would stop, and what goes on. Changes nothing.
pub(in crate::console) async fn plan(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    Ok(show(&state, &visitor, &request(&fields)?, &fields, StatusCode::OK, ""))
}

fn show(
    state: &ConsoleState,
    visitor: &Visitor,
    request: &PauseRequest,
    fields: &Fields,
    status: StatusCode,
    error: &str,
) -> Response {
    let ends = match request.lasting {
        Some(lasting) => {
            let ms = u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX);
            format!("It ends by itself after {}.", age(ms))
        }
        None => "It has no end: it holds until somebody ends it.".to_owned(),
    };
    let page = PlanPage {
        shell: Shell::new(state, visitor, Place::Rules),
        error: error.to_owned(),
        jobs: Sight::of(visitor).selector(&request.jobs),
        fields: fields_of(&request.jobs),
        lasting: fields.get("for").unwrap_or(LASTING[0].0).to_owned(),
        ends,
        reason: request.reason.clone().unwrap_or_default(),
        is_everything: request.jobs.is_everything(),
    };
    html(status, &page)
}

/// Puts a pause in force, and waits until the workers know it.
pub(in crate::console) async fn pause(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let request = request(&fields)?;
    if request.jobs.is_everything() && fields.get("typed") != Some(EVERYTHING) {
        let error = "To pause everything, type the word everything. Nothing was done.";
        return Ok(show(&state, &visitor, &request, &fields, StatusCode::BAD_REQUEST, error));
    }
    let mut backend = state.shared.backend();
    pauses::pause(&mut backend, &visitor.principal.actor(), request).await?;
    pauses::in_force(&mut backend, IN_FORCE_WITHIN).await?;
    Ok(Redirect::to("/console/rules?did=pause").into_response())
}

/// Ends the pause, or the cancellation, of exactly these jobs: asks first, and acts when it is confirmed.
pub(in crate::console) async fn end(
    State(state): State<Arc<ConsoleState>>,
    OperatorForm { visitor, fields }: OperatorForm,
) -> Answer {
    visitor.principal.require_all_merchants()?;
    let jobs = selector(&fields)?;
    let is_pause = fields.get("order") != Some(CANCEL);
    let mut backend = state.shared.backend();
    // The pause of everything has no fields, and `resume` would take them as every pause.
    let is_others = |rule: &RuleInForce| !rule.jobs.is_everything();
    if is_pause && jobs.is_everything() && pauses::list(&mut backend).await?.iter().any(is_others) {
        return Err(ConsoleError::Refused {
            sentence: "other pauses are in force as well, and would end with the pause of everything".to_owned(),
            remedy: "End the others first.".to_owned(),
        });
    }
    if !fields.has("confirmed") {
        let page = EndPage {
            shell: Shell::new(&state, &visitor, Place::Rules),
            is_pause,
            jobs: Sight::of(&visitor).selector(&jobs),
            fields: fields_of(&jobs),
        };
        return Ok(html(StatusCode::OK, &page));
    }
    let actor = visitor.principal.actor();
    let did = if is_pause {
        let has_ended = !pauses::resume(&mut backend, &actor, &jobs).await?.resumed.is_empty();
        has_ended.then_some("end")
    } else {
        jobs::end_cancellation(&mut backend, &actor, &jobs).await?.then_some("uncancel")
    };
    pauses::in_force(&mut backend, IN_FORCE_WITHIN).await?;
    Ok(Redirect::to(&format!("/console/rules?did={}", did.unwrap_or("none"))).into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pause_ends_by_itself_unless_that_is_chosen() {
        let of = |text: &str| request(&Fields::parse(text.as_bytes()));
        let pause = of("type=CreateUser&lane=bulk&reason=XCO+asked").unwrap();
        assert_eq!(pause.lasting, Some(Duration::from_secs(600)));
        let fields = [("lane", "bulk".to_owned()), ("type", "CreateUser".to_owned())];
        assert_eq!(fields_of(&pause.jobs), fields);
        assert_eq!(of("for=ended").unwrap().lasting, None);
        for wrong in ["type=X", "lane=x", "for=soon", "reason=a%0Ab", &format!("caller={}", "x".repeat(257))] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
