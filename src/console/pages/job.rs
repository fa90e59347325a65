//! `/console/jobs/{id}`: where a job is, what it waits for, what came before and after it.

use super::jobs::{look_of, path_of};
use crate::{
    console::{
        error::{Answer, ConsoleError, html},
        fields::link,
        shell::{Part, Place, Shell},
        sight::Sight,
        state::ConsoleState,
        text::{clock, shown, shown_json},
        visitor::Visitor,
    },
    contract::{Status, fingerprint},
    operations::{
        NoProgress, PastAttempt, age,
        jobs::{self, Explanation, JobPlace, LiveJob, Stage},
        masked_completion,
    },
};
use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    shell: Shell,
    id: String,
    state: Part,
    chain: Part,
    masked: String,
    /// Where it can be cancelled; empty: it cannot, or not by this visitor.
    cancel: String,
}

/// What came before and after the job.
#[derive(Template)]
#[template(path = "parts/chain.html")]
struct ChainPart {
    id: String,
    up: Option<ChainLink>,
    down: Vec<ChainLink>,
    /// What is known of the steps after this one, in words.
    after: &'static str,
}

/// A job before or after this one.
struct ChainLink {
    /// The address of its page; empty: there is no such job yet.
    path: String,
    text: String,
}

/// What changes while the job lives.
#[derive(Template)]
#[template(path = "parts/job.html")]
struct JobPart {
    id: String,
    symbol: &'static str,
    tone: &'static str,
    sentence: String,
    lines: Vec<String>,
    facts: Vec<(&'static str, String)>,
    steps: Vec<Step>,
}

/// A step of the timeline.
struct Step {
    tone: &'static str,
    text: String,
}

async fn explained(state: &ConsoleState, visitor: &Visitor, id: &str) -> Result<Explanation, ConsoleError> {
    let mut backend = state.shared.backend_for_scans();
    let explanation =
        jobs::explain(&mut backend, &state.config, id, visitor.principal.merchants(), &NoProgress).await?;
    if explanation.is_known() {
        return Ok(explanation.with_masked_errors());
    }
    let searched = match explanation.words.first() {
        Some(words) => words.strip_prefix(&format!("{id}: ")).unwrap_or(words).to_owned(),
        None => "not known".to_owned(),
    };
    let kept = age(u64::try_from(state.config.completions.retention.as_millis()).unwrap_or(u64::MAX));
    Err(ConsoleError::NotFound(format!("this job is {searched}. Completions are kept for {kept}")))
}

/// The page.
pub(in crate::console) async fn page(
    State(state): State<Arc<ConsoleState>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Answer {
    let explanation = explained(&state, &visitor, &id).await?;
    let shell = Shell::new(&state, &visitor, Place::Jobs);
    Ok(html(StatusCode::OK, &JobPage::new(shell, &explanation, Sight::of(&visitor), visitor.may_operate())?))
}

impl JobPage {
    fn new(
        mut shell: Shell,
        explanation: &Explanation,
        sight: Sight,
        may_operate: bool,
    ) -> Result<Self, askama::Error> {
        let [state, chain] = parts(explanation, sight)?;
        let masked = match &explanation.place {
            JobPlace::Waiting { job, .. }
            | JobPlace::Adrift { job }
            | JobPlace::InFlight { job, .. }
            | JobPlace::Delayed { job, .. } => shown_json(&job.masked),
            JobPlace::Ended(ended) => shown_json(&masked_completion(&ended.completion)),
            JobPlace::Dead(_) | JobPlace::Unknown { .. } => String::new(),
        };
        let (lives, id) = (is_alive(&explanation.place), &explanation.id);
        let cancel = if lives && may_operate { format!("{}/cancel", path_of(id)) } else { String::new() };
        if lives {
            shell = shell.live(link("/console/live", &[("page", "job"), ("id", id)]));
        }
        Ok(Self { shell, id: shown(id), state, chain, masked, cancel })
    }
}

/// The page of an ended job, with this text in every field.
#[cfg(test)]
pub(in crate::console) fn rendered(shell: Shell, text: &str) -> Result<String, askama::Error> {
    let owned = || Some(text.to_owned());
    let completion = serde_json::json!({
        "id": text, "type": text, "batch": text, "merchant_id": text, "caller_id": text, "customer_reference": text,
        "parent_id": text, "next_id": text, "meta": {text: text},
    });
    let ended = jobs::EndedJob {
        completion,
        dead_letter: true,
        status: owned(),
        outcome: owned(),
        attempts: Some(3),
        enqueued_at: owned(),
        started_at: owned(),
        completed_at: owned(),
        timings_ms: None,
        batch: owned(),
        error: Some(jobs::LastError { kind: owned(), message: owned() }),
        past_attempts: Vec::new(),
    };
    let words = vec![text.to_owned(); 3];
    let explanation = Explanation { id: text.to_owned(), partition: None, place: JobPlace::Ended(ended), words };
    JobPage::new(shell, &explanation, Sight::Full, true)?.render()
}

/// The parts that change.
fn parts(explanation: &Explanation, sight: Sight) -> Result<[Part; 2], askama::Error> {
    Ok([
        Part { id: "job", html: JobPart::new(explanation, sight).render()? },
        Part { id: "chain", html: ChainPart::new(explanation).render()? },
    ])
}

/// The parts that change, the time of their figures, and whether the job has ended.
pub(in crate::console) async fn live_parts(
    state: &ConsoleState,
    visitor: &Visitor,
    id: &str,
) -> Result<(Vec<Part>, String, bool), ConsoleError> {
    let explanation = explained(state, visitor, id).await?;
    let at = jiff::Timestamp::now().to_string();
    Ok((parts(&explanation, Sight::of(visitor))?.into(), at, !is_alive(&explanation.place)))
}

const fn is_alive(place: &JobPlace) -> bool {
    !matches!(place, JobPlace::Ended(_) | JobPlace::Dead(_) | JobPlace::Unknown { .. })
}

impl ChainPart {
    fn new(explanation: &Explanation) -> Self {
        let (up, down, after) = chain(&explanation.place);
        Self { id: shown(&explanation.id), up, down, after }
    }
}

/// The job before it, those after it, and what is known of these.
fn chain(place: &JobPlace) -> (Option<ChainLink>, Vec<ChainLink>, &'static str) {
    let to = |id: &str| ChainLink { path: path_of(id), text: shown(id) };
    match place {
        JobPlace::Waiting { job, .. }
        | JobPlace::Adrift { job }
        | JobPlace::InFlight { job, .. }
        | JobPlace::Delayed { job, .. } => {
            let next = job.masked["next"].as_object().into_iter().flatten();
            let steps = next.map(|(outcome, step)| {
                let job_type = shown(step["type"].as_str().unwrap_or("a job"));
                ChainLink { path: String::new(), text: format!("{job_type}, if {}", shown(outcome)) }
            });
            let steps: Vec<_> = steps.collect();
            let after = if steps.is_empty() { "Nothing follows it." } else { "" };
            (job.parent_id.as_deref().map(to), steps, after)
        }
        JobPlace::Ended(ended) => {
            let id = |name: &str| ended.completion[name].as_str();
            let next: Vec<_> = id("next_id").map(to).into_iter().collect();
            let after = if next.is_empty() { "No job followed it, as far as its completion says." } else { "" };
            (id("parent_id").map(to), next, after)
        }
        JobPlace::Dead(_) | JobPlace::Unknown { .. } => (None, Vec::new(), "What came of it is not known any more."),
    }
}

impl JobPart {
    fn new(explanation: &Explanation, sight: Sight) -> Self {
        let (stage, status) = match &explanation.place {
            JobPlace::Waiting { .. } | JobPlace::Adrift { .. } | JobPlace::Unknown { .. } => (Stage::Waiting, None),
            JobPlace::InFlight { .. } => (Stage::Running, None),
            JobPlace::Delayed { .. } => (Stage::Delayed, None),
            JobPlace::Ended(ended) => (Stage::Ended, ended.status.as_deref().and_then(Status::from_name)),
            JobPlace::Dead(_) => (Stage::Ended, Some(Status::Failed)),
        };
        let (symbol, tone, _) = look_of(stage, status);
        let prefix = format!("{}: ", explanation.id);
        let line = |line: &String| capital(&shown(line.strip_prefix(&prefix).unwrap_or(line)));
        let mut words = explanation.words.iter().map(line);
        let mut sentence = words.next().unwrap_or_default();
        if let (JobPlace::Delayed { waits_for, until, .. }, Sight::Masked) = (&explanation.place, sight) {
            // The usual words may name the caller whose limit it waits for, or whom a pause is about.
            let until = until.as_deref().map_or(String::new(), |until| format!(" until {until}"));
            sentence = format!("Delayed{until}: waits for {}", waits_for.as_str());
        }
        let (facts, steps) = match &explanation.place {
            JobPlace::Waiting { job, .. } | JobPlace::Adrift { job } => {
                (facts_of_live(job), steps_of_live(job, "waits"))
            }
            JobPlace::InFlight { job, .. } => (facts_of_live(job), steps_of_live(job, "with a worker")),
            JobPlace::Delayed { job, waits_for, .. } => {
                (facts_of_live(job), steps_of_live(job, &format!("waits for {}", waits_for.as_str())))
            }
            JobPlace::Ended(ended) => {
                let mut facts = facts_of(&ended.completion, sight);
                if let Some(attempts) = ended.attempts {
                    facts.push(("Calls", attempts.to_string()));
                }
                (facts, steps_of_ended(ended))
            }
            JobPlace::Dead(dead) => (Vec::new(), attempts(&dead.past_attempts)),
            JobPlace::Unknown { .. } => (Vec::new(), Vec::new()),
        };
        // The attempts stand in the timeline.
        let lines = words.filter(|line| !line.starts_with("Call at ")).collect();
        Self { id: shown(&explanation.id), symbol, tone, sentence, lines, facts, steps }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// What is open in the JSON of a job or a completion.
fn facts_of(json: &Value, sight: Sight) -> Vec<(&'static str, String)> {
    let text = |name: &str| json[name].as_str().map(shown);
    let mut facts = Vec::new();
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("Type", text("type"));
    add("Lane", text("lane"));
    add("Merchant", text("merchant_id"));
    add("Batch", text("batch"));
    add("Caller", json["caller_id"].as_str().map(|caller| sight.caller(caller)));
    add(
        "Customer",
        json["customer_reference"].as_str().map(|customer| match sight {
            Sight::Full => shown(customer),
            Sight::Masked => fingerprint(customer),
        }),
    );
    facts
}

fn facts_of_live(job: &LiveJob) -> Vec<(&'static str, String)> {
    let text = |name: &str| job.masked[name].as_str().map(shown);
    let mut facts = vec![("Lane", job.lane.to_string())];
    facts.extend(text("type").map(|text| ("Type", text)));
    facts.extend(text("merchant_id").map(|text| ("Merchant", text)));
    facts.extend(text("batch").map(|text| ("Batch", text)));
    if let Some(history) = &job.history {
        facts.push(("Calls", format!("{} ({} failed)", history.attempts, history.failures)));
        facts.push(("In doubt", if history.in_doubt { "yes" } else { "no" }.to_owned()));
    }
    facts.push(("Origin", shown(&job.origin)));
    facts
}

fn steps_of_live(job: &LiveJob, now: &str) -> Vec<Step> {
    let mut steps = vec![Step { tone: "", text: format!("{} enqueued", clock(&job.enqueued_at)) }];
    steps.extend(attempts(&job.past_attempts));
    steps.push(Step { tone: "call", text: format!("now: {now}") });
    steps
}

fn steps_of_ended(ended: &jobs::EndedJob) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(at) = &ended.enqueued_at {
        steps.push(Step { tone: "", text: format!("{} enqueued", shown(clock(at))) });
    }
    if ended.past_attempts.is_empty() {
        let timings = ended.timings_ms.as_ref();
        let ms = |name: &str| timings.and_then(|timings| timings[name].as_u64()).filter(|ms| *ms > 0);
        for (name, words) in [("queued", "queued"), ("limited", "waited for a limit"), ("retrying", "waited to retry")]
        {
            steps.extend(ms(name).map(|ms| Step { tone: "", text: format!("{words} {}", age(ms)) }));
        }
        steps.extend(ms("xco").map(|ms| Step { tone: "call", text: format!("XCO took {}", age(ms)) }));
    }
    steps.extend(attempts(&ended.past_attempts));
    if let Some(at) = &ended.completed_at {
        let status = shown(ended.status.as_deref().unwrap_or("ended"));
        let tone = if status == "succeeded" { "ok" } else { "bad" };
        steps.push(Step { tone, text: format!("{} {status}", shown(clock(at))) });
    }
    steps
}

/// A call, then the time until the next.
fn attempts(past: &[PastAttempt]) -> Vec<Step> {
    let mut steps = Vec::new();
    for attempt in past {
        let answer = attempt.http_status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let error = attempt.error.map_or_else(String::new, |kind| format!(" {}", kind.as_str()));
        let text = format!("{} call: {answer}{error}, {}", clock(&attempt.at), age(attempt.took_ms));
        steps.push(Step { tone: if attempt.error.is_some() { "bad" } else { "ok" }, text });
        steps.extend(attempt.waited_ms.map(|ms| Step { tone: "", text: format!("waited {}", age(ms)) }));
    }
    steps
}
