//! `/console`: how the queue is, in one sentence and five boxes.

use crate::{
    console::{
        board::Look,
        error::{Answer, html},
        shell::{Part, Place, Shell},
        sight::Sight,
        state::ConsoleState,
        visitor::Visitor,
    },
    operations::verdict::Severity,
};
use askama::Template;
use axum::{extract::State, http::StatusCode};
use std::sync::Arc;

mod boxes;
mod rest;

/// Seconds after which the page asks for itself again, where there is no script.
const REFRESH_S: u32 = 30;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    title: String,
    parts: Vec<Part>,
}

#[derive(Template)]
#[template(path = "parts/verdict.html")]
struct VerdictPart<'a> {
    tone: &'static str,
    sentence: String,
    advice: &'a str,
    link: &'static str,
    link_text: &'static str,
}

/// The page.
pub(in crate::console) async fn page(State(state): State<Arc<ConsoleState>>, visitor: Visitor) -> Answer {
    visitor.principal.require_all_merchants()?;
    let look = state.board.look(&state.shared, &state.config).await?;
    let mut shell = Shell::new(&state, &visitor, Place::Overview).at(&look.snapshot.at);
    shell.live = "/console/live?page=overview".to_owned();
    shell.refresh_s = REFRESH_S;
    let page = OverviewPage { shell, title: look.verdict.sentence.clone(), parts: parts(&look, Sight::of(&visitor))? };
    Ok(html(StatusCode::OK, &page))
}

/// The parts of the page that change, in the order in which they stand there.
pub(in crate::console) fn parts(look: &Look, sight: Sight) -> Result<Vec<Part>, askama::Error> {
    Ok(vec![
        Part { id: "verdict", html: verdict(look).render()? },
        Part { id: "boxes", html: boxes::of(look).render()? },
        Part { id: "rules", html: rest::rules(look, sight).render()? },
        Part { id: "workers", html: rest::workers(look, sight).render()? },
    ])
}

fn verdict(look: &Look) -> VerdictPart<'_> {
    use crate::operations::verdict::Page;
    let verdict = &look.verdict;
    let (link, link_text) = match verdict.link {
        None => ("", ""),
        Some(Page::Jobs) => ("/console/jobs?q=state:waiting", "The jobs that wait"),
        Some(Page::DeadLetters) => (Place::Dead.path(), "The dead letters"),
        Some(Page::Rules) => (Place::Rules.path(), "The rules"),
        Some(Page::Workers) => ("#workers", "The workers"),
    };
    VerdictPart {
        tone: tone(verdict.severity),
        sentence: crate::console::text::shown(&verdict.sentence),
        advice: verdict.advice,
        link,
        link_text,
    }
}

const fn tone(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warn => "warn",
        Severity::Bad => "bad",
    }
}
