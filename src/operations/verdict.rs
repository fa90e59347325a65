//! The overview in one sentence: how the queue is, and what an operator should do. Pure.

use super::{
    history::Point,
    rule_in_force::RuleInForce,
    status::{Snapshot, WorkerFigures},
    text::age,
};
use crate::{
    contract::{DelayReason, Lane, Status},
    rules::Selector,
};
use serde::Serialize;

/// People should not wait longer than this, in milliseconds.
pub const LONGEST_WAIT_MS: u64 = 30_000;
/// More than this share of the jobs of the last ten minutes should not fail, in percent.
pub const MOST_FAILED_PERCENT: f64 = 1.0;
/// With fewer jobs than this within ten minutes, their share of failures says nothing.
pub const FEWEST_ENDED: f64 = 20.0;
/// The time that counts as lately, in milliseconds.
pub const LATELY_MS: u64 = 600_000;

/// Seconds that a point of the last hour covers.
const STEP_S: f64 = 10.0;

/// How the queue is, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How bad it is.
    pub severity: Severity,
    /// What is the case. It holds no personal data but the names of operators.
    pub sentence: String,
    /// What to do.
    pub advice: &'static str,
    /// Where to look. `None`: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Page>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// All is well.
    Ok,
    /// Somebody should look, but not at night.
    Warn,
    /// People wait, or jobs are lost to view.
    Bad,
}

/// Where an operator should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// The jobs that wait.
    Jobs,
    /// The dead letters.
    DeadLetters,
    /// The rules in force.
    Rules,
    /// The workers.
    Workers,
}

/// The verdict where Redis cannot be reached. `reason` is the cause in a few words.
pub fn without_redis(reason: &str) -> Verdict {
    bad(
        format!("Redis cannot be reached: {reason}."),
        "Nothing is lost that Redis acknowledged. Bring Redis back; workers then go on by themselves.",
        None,
    )
}

/// The verdict on a snapshot: the first of the rules that holds. `history` is that of the last hour, the oldest point first;
/// `now_ms` the time of the snapshot; `max_pending` is `queue.max_pending`.
pub fn verdict(snapshot: &Snapshot, history: &[Point], now_ms: u64, max_pending: u64) -> Verdict {
    let lately: Vec<&Point> =
        history.iter().filter(|point| point.at_ms <= now_ms && now_ms - point.at_ms <= LATELY_MS).collect();
    no_worker(snapshot)
        .or_else(|| paused(snapshot))
        .or_else(|| breaker_open(snapshot))
        .or_else(|| routes_fail(snapshot))
        .or_else(|| people_wait(snapshot))
        .or_else(|| too_many_pending(snapshot, max_pending))
        .or_else(|| too_many_failed(&lately))
        .or_else(|| more_dead_letters(snapshot, &lately))
        .or_else(|| silent_worker(snapshot))
        .unwrap_or_else(|| all_is_well(snapshot))
}

const fn bad(sentence: String, advice: &'static str, link: Option<Page>) -> Verdict {
    Verdict { severity: Severity::Bad, sentence, advice, link }
}

const fn warn(sentence: String, advice: &'static str, link: Option<Page>) -> Verdict {
    Verdict { severity: Severity::Warn, sentence, advice, link }
}

fn no_worker(snapshot: &Snapshot) -> Option<Verdict> {
    if snapshot.workers.iter().any(|worker| !worker.is_silent()) {
        return None;
    }
    let sentence = format!("No worker runs. {}", waiting(snapshot));
    Some(bad(sentence, "Start a worker. The jobs keep their order.", Some(Page::Workers)))
}

/// A pause of everything or of a whole lane.
fn paused(snapshot: &Snapshot) -> Option<Verdict> {
    let (selector, rule) = snapshot.orders.iter().find_map(|rule| {
        let Selector { lane, .. } = rule.jobs;
        let is_whole = rule.jobs == Selector { lane, ..Selector::default() };
        (rule.order == "pause" && is_whole).then_some((lane, rule))
    })?;
    let what = match selector {
        None => "Everything".to_owned(),
        Some(lane) => format!("The {lane} lane"),
    };
    let until = rule.until.as_deref().and_then(clock).map_or(String::new(), |until| format!(" until {until} UTC"));
    let RuleInForce { who, .. } = rule;
    let sentence = format!("{what} is paused by {who}{until}. {}", waiting(snapshot));
    let advice = "Nothing to do if the pause is meant. Otherwise end it.";
    let severity = if selector == Some(Lane::Bulk) { Severity::Warn } else { Severity::Bad };
    Some(Verdict { severity, sentence, advice, link: Some(Page::Rules) })
}

fn breaker_open(snapshot: &Snapshot) -> Option<Verdict> {
    if !snapshot.breaker.open {
        return None;
    }
    let is_refused =
        snapshot.workers.iter().any(|worker| worker.heartbeat.breaker_reason.as_deref() == Some("refused"));
    let (what, advice) = if is_refused {
        ("XCO refuses this client.", "Check xco.client_id and xco.client_secret. Jobs keep their order until then.")
    } else {
        ("XCO is failing.", "Jobs keep their order; nothing to do yet.")
    };
    Some(bad(format!("{what} {}", waiting(snapshot)), advice, Some(Page::Jobs)))
}

/// XCO fails the calls of some job types. Their jobs are delayed, so they do not count as waiting in their lane.
fn routes_fail(snapshot: &Snapshot) -> Option<Verdict> {
    if snapshot.breaker.routes.is_empty() {
        return None;
    }
    let routes: Vec<&str> = snapshot.breaker.routes.keys().copied().collect();
    let routes = routes.join(", ");
    let delayed = snapshot.delayed.by_reason.get(&DelayReason::Breaker).copied().unwrap_or(0);
    let about = if snapshot.delayed.exact { "" } else { "About " };
    let held = match delayed {
        0 => "No job is held back for that.".to_owned(),
        1 => "1 job is held back.".to_owned(),
        count => format!("{about}{} jobs are held back.", grouped(count)),
    };
    let advice = "Calls are tried one at a time; the jobs go on by themselves when XCO answers again.";
    Some(bad(format!("XCO is failing for {routes}. {held}"), advice, Some(Page::Jobs)))
}

fn people_wait(snapshot: &Snapshot) -> Option<Verdict> {
    let lane = snapshot.lanes.get(Lane::Interactive.as_str())?;
    if lane.oldest_ms <= LONGEST_WAIT_MS {
        return None;
    }
    let running = || snapshot.workers.iter().filter(|worker| !worker.is_silent()).map(|worker| &worker.heartbeat);
    let used: u64 = running().map(|beat| beat.running.interactive + beat.running.bulk).sum();
    let allowed: u64 = running().map(|beat| beat.allowed).sum();
    let advice = if used >= allowed {
        "All worker slots are used: start another worker, or pause the bulk lane."
    } else {
        "Worker slots are free: look at what the oldest job waits for."
    };
    Some(bad(waiting(snapshot), advice, Some(Page::Jobs)))
}

fn too_many_pending(snapshot: &Snapshot, max_pending: u64) -> Option<Verdict> {
    let held = |lane: Lane| {
        let figures = snapshot.lanes.get(lane.as_str())?;
        Some((lane, figures.waiting.saturating_add(figures.in_flight)))
    };
    let (lane, pending) =
        Lane::ALL.into_iter().filter_map(held).find(|(_, pending)| max_pending > 0 && *pending > max_pending)?;
    let (pending, most) = (grouped(pending), grouped(max_pending));
    let sentence = format!("The {lane} lane holds {pending} jobs, more than the {most} of queue.max_pending.");
    Some(warn(
        sentence,
        "Programs that ask first are refused. Slow the producer down, or start more workers.",
        Some(Page::Jobs),
    ))
}

fn too_many_failed(lately: &[&Point]) -> Option<Verdict> {
    let (mut ended, mut failed) = (0.0, 0.0);
    for since in lately.iter().filter_map(|point| point.since.as_ref()) {
        ended += since.ended_per_second.values().sum::<f64>() * STEP_S;
        failed += since.ended_per_second.get(Status::Failed.as_str()).copied().unwrap_or(0.0) * STEP_S;
    }
    if ended < FEWEST_ENDED || failed * 100.0 <= ended * MOST_FAILED_PERCENT {
        return None;
    }
    let sentence = format!("{:.1} % of the jobs of the last 10 min failed.", failed * 100.0 / ended);
    Some(bad(
        sentence,
        "Look at what went wrong, and replay the jobs when the cause is mended.",
        Some(Page::DeadLetters),
    ))
}

fn more_dead_letters(snapshot: &Snapshot, lately: &[&Point]) -> Option<Verdict> {
    let before = u64::from(lately.first()?.dead_letters);
    let total = snapshot.dead_letters.total;
    let more = total.checked_sub(before).filter(|more| *more > 0)?;
    let letters = if total == 1 { "dead letter" } else { "dead letters" };
    let kinds = snapshot.dead_letters.by_kind.iter();
    let most = kinds.max_by_key(|(_, count)| **count).map_or(String::new(), |(kind, _)| format!(" Most: {kind}."));
    let sentence = format!("{} {letters}, {} more in the last 10 min.{most}", grouped(total), grouped(more));
    Some(warn(
        sentence,
        "Look at what went wrong, and replay the jobs when the cause is mended.",
        Some(Page::DeadLetters),
    ))
}

fn silent_worker(snapshot: &Snapshot) -> Option<Verdict> {
    let silent: Vec<&WorkerFigures> = snapshot.workers.iter().filter(|worker| worker.is_silent()).collect();
    let first = silent.first()?;
    let of = format!("{} of {} workers", silent.len(), snapshot.workers.len());
    let verb = if silent.len() == 1 { "is" } else { "are" };
    let sentence = format!("{of} {verb} silent: {}, for {}.", first.name, age(first.silent_ms));
    Some(warn(sentence, "Its jobs are taken over. See whether its machine still runs.", Some(Page::Workers)))
}

fn all_is_well(snapshot: &Snapshot) -> Verdict {
    let per_second = snapshot.rates.per_second;
    let rate = if per_second < 10.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") };
    let oldest_ms = snapshot.lanes.get(Lane::Interactive.as_str()).map_or(0, |lane| lane.oldest_ms);
    let sentence = format!("All is well: {rate} a second, the longest wait {}.", age(oldest_ms));
    Verdict { severity: Severity::Ok, sentence, advice: "Nothing to do.", link: None }
}

/// `2,290 people wait, the oldest 13 s.`
fn waiting(snapshot: &Snapshot) -> String {
    let lane = snapshot.lanes.get(Lane::Interactive.as_str()).copied().unwrap_or_default();
    match lane.waiting {
        0 => "Nobody waits.".to_owned(),
        1 => format!("1 person waits, for {}.", age(lane.oldest_ms)),
        count => format!("{} people wait, the oldest {}.", grouped(count), age(lane.oldest_ms)),
    }
}

/// `12,345`
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The time of day of an RFC 3339 time.
fn clock(at: &str) -> Option<&str> {
    at.get(11..19)
}

#[cfg(test)]
mod tests;
