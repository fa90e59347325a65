//! The overview in one sentence: how the queue is, and what an operator should do. Pure.

use super::{
    history::Point,
    rule_in_force::RuleInForce,
    status::{Snapshot, WorkerFigures},
    text::age,
};
use crate::{
    contract::{Lane, Status},
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
mod tests {
    use super::*;
    use crate::{
        operations::{
            history::{Range, Since},
            status::{DeadLetters, LaneFigures, Rates},
        },
        queue::workers::{Heartbeat, RunningJobs},
    };

    const NOW_MS: u64 = 1_795_374_670_000;

    fn worker(name: &str, silent_ms: u64) -> WorkerFigures {
        let heartbeat = Heartbeat {
            looks_at_recent: true,
            version: "0.1.0".to_owned(),
            host: name.to_owned(),
            pid: 7,
            started_at_ms: 0,
            seen_at_ms: 0,
            slots: 64,
            allowed: 64,
            running: RunningJobs::default(),
            calls_last_minute: 0,
            failures_last_minute: 0,
            breaker: "closed".to_owned(),
            breaker_routes: [].into(),
            breaker_reason: None,
            lease_ms: None,
            settings: [].into(),
            configured_slots: None,
            rules_version: None,
        };
        WorkerFigures { name: name.to_owned(), heartbeat, uptime_ms: 0, silent_ms }
    }

    fn well() -> Snapshot {
        let lane = LaneFigures { waiting: 2_290, in_flight: 14, oldest_ms: 13_000, paused: false };
        Snapshot {
            lanes: [("interactive", lane), ("bulk", LaneFigures::default())].into(),
            rates: Rates { per_second: 36.2, ..Rates::default() },
            workers: vec![worker("vm-1", 200)],
            ..Snapshot::default()
        }
    }

    fn point(ago_ms: u64, dead_letters: u32, succeeded: f64, failed: f64) -> Point {
        let ended = [("succeeded", succeeded), ("failed", failed)].into();
        Point {
            at: String::new(),
            at_ms: NOW_MS - ago_ms,
            lanes: [].into(),
            delayed: 0,
            delayed_by: [].into(),
            delayed_exact: true,
            dead_letters,
            calls_last_minute: 0,
            failures_last_minute: 0,
            workers: 1,
            slots_allowed: 64,
            slots_used: 0,
            breaker_open: false,
            rules: 0,
            closed_limits: 0,
            since: Some(Since { ended_per_second: ended, rate_limited_per_second: 0.0, people: None, xco: None }),
        }
    }

    fn judge(snapshot: &Snapshot, history: &[Point]) -> (Severity, String) {
        let Verdict { severity, sentence, advice, link } = verdict(snapshot, history, NOW_MS, 100_000);
        assert!(!advice.is_empty() && (link.is_none() == (severity == Severity::Ok)), "{sentence}");
        (severity, sentence)
    }

    fn pause(selector: Selector) -> RuleInForce {
        RuleInForce {
            order: "pause",
            jobs: selector,
            who: "ada (ops)".to_owned(),
            from: "console at gw-1".to_owned(),
            at: "2026-01-31T03:11:10.000Z".to_owned(),
            until: Some("2026-01-31T03:21:10.000Z".to_owned()),
            reason: None,
        }
    }

    #[test]
    fn redis_away_says_why() {
        let Verdict { severity, sentence, .. } = without_redis("connection refused");
        assert_eq!((severity, sentence.as_str()), (Severity::Bad, "Redis cannot be reached: connection refused."));
    }

    #[test]
    fn a_worker_counts_until_ten_seconds_of_silence() {
        let snapshot = |silent_ms| Snapshot { workers: vec![worker("vm-1", silent_ms)], ..well() };
        assert_eq!(judge(&snapshot(10_000), &[]).0, Severity::Ok);
        let wanted = "No worker runs. 2,290 people wait, the oldest 13 s.";
        assert_eq!(judge(&snapshot(10_001), &[]), (Severity::Bad, wanted.to_owned()));
        assert_eq!(judge(&Snapshot { workers: Vec::new(), ..well() }, &[]).0, Severity::Bad);
        let both = Snapshot { workers: vec![worker("vm-1", 0), worker("vm-2", 10_001)], ..well() };
        assert_eq!(judge(&both, &[]), (Severity::Warn, "1 of 2 workers is silent: vm-2, for 10 s.".to_owned()));
    }

    #[test]
    fn a_pause_of_a_whole_lane_comes_before_what_follows_from_it() {
        let mut snapshot = Snapshot { orders: vec![pause(Selector::default())], ..well() };
        snapshot.breaker.open = true;
        let wanted = "Everything is paused by ada (ops) until 03:21:10 UTC. 2,290 people wait, the oldest 13 s.";
        assert_eq!(judge(&snapshot, &[]), (Severity::Bad, wanted.to_owned()));
        snapshot.breaker.open = false;
        snapshot.orders = vec![pause(Selector { lane: Some(Lane::Bulk), ..Selector::default() })];
        let (severity, sentence) = judge(&snapshot, &[]);
        assert!(severity == Severity::Warn && sentence.starts_with("The bulk lane is paused"), "{sentence}");
        // A pause of some jobs is none of the whole.
        snapshot.orders = vec![pause(Selector { batch: Some("spring".to_owned()), ..Selector::default() })];
        assert_eq!(judge(&snapshot, &[]).0, Severity::Ok);
    }

    #[test]
    fn an_open_breaker_tells_an_outage_from_a_refusal() {
        let mut snapshot = well();
        snapshot.breaker.open = true;
        let wanted = "XCO is failing. 2,290 people wait, the oldest 13 s.";
        assert_eq!(judge(&snapshot, &[]), (Severity::Bad, wanted.to_owned()));
        snapshot.workers[0].heartbeat.breaker_reason = Some("refused".to_owned());
        assert!(judge(&snapshot, &[]).1.starts_with("XCO refuses this client."));
    }

    #[test]
    fn people_wait_too_long_after_thirty_seconds() {
        let mut snapshot = well();
        let mut wait = |oldest_ms| {
            let lane = LaneFigures { waiting: 1, in_flight: 0, oldest_ms, paused: false };
            snapshot.lanes.insert("interactive", lane);
            judge(&snapshot, &[])
        };
        assert_eq!(wait(LONGEST_WAIT_MS).0, Severity::Ok);
        assert_eq!(wait(LONGEST_WAIT_MS + 1_000), (Severity::Bad, "1 person waits, for 31 s.".to_owned()));
    }

    #[test]
    fn a_lane_is_too_full_above_max_pending() {
        let mut snapshot = well();
        let mut hold = |waiting, most| {
            snapshot.lanes.insert("bulk", LaneFigures { waiting, in_flight: 1, ..LaneFigures::default() });
            verdict(&snapshot, &[], NOW_MS, most)
        };
        assert_eq!(hold(99_999, 100_000).severity, Severity::Ok);
        let full = hold(100_000, 100_000);
        let wanted = "The bulk lane holds 100,001 jobs, more than the 100,000 of queue.max_pending.";
        assert_eq!((full.severity, full.sentence.as_str()), (Severity::Warn, wanted));
        assert_eq!(hold(100_000, 0).severity, Severity::Ok, "0 is no maximum");
    }

    #[test]
    fn more_than_one_percent_of_failures_is_too_much() {
        let of = |failed, ago_ms| judge(&well(), &[point(ago_ms, 0, 99.0, failed)]);
        assert_eq!(of(1.0, 0).0, Severity::Ok);
        assert_eq!(of(1.1, 0), (Severity::Bad, "1.1 % of the jobs of the last 10 min failed.".to_owned()));
        assert_eq!(of(1.1, LATELY_MS + 1).0, Severity::Ok, "long ago");
        assert_eq!(judge(&well(), &[point(0, 0, 0.9, 0.9)]).0, Severity::Ok, "18 jobs say nothing");
        assert_eq!(judge(&well(), &[point(0, 0, 1.0, 1.0)]).0, Severity::Bad, "20 jobs do");
        assert_eq!(Range::Hour.step_ms(), 10_000, "what a point covers");
    }

    #[test]
    fn dead_letters_that_grew_are_named() {
        let dead = DeadLetters {
            total: 67,
            looked_at: 67,
            by_kind: [("upstream".to_owned(), 47), ("timeout".to_owned(), 20)].into(),
        };
        let snapshot = Snapshot { dead_letters: dead, ..well() };
        let wanted = "67 dead letters, 12 more in the last 10 min. Most: upstream.";
        let history = [point(LATELY_MS + 10_000, 0, 1.0, 0.0), point(LATELY_MS, 55, 1.0, 0.0), point(0, 67, 1.0, 0.0)];
        assert_eq!(judge(&snapshot, &history), (Severity::Warn, wanted.to_owned()));
        assert_eq!(judge(&snapshot, &history[2..]).0, Severity::Ok, "they did not grow");
        assert_eq!(judge(&snapshot, &[point(0, 70, 1.0, 0.0)]).0, Severity::Ok, "they became fewer");
        assert_eq!(judge(&snapshot, &[]).0, Severity::Ok, "nobody knows");
    }

    #[test]
    fn all_is_well_has_figures() {
        assert_eq!(judge(&well(), &[]).1, "All is well: 36 a second, the longest wait 13 s.");
        assert_eq!(
            judge(&Snapshot { workers: vec![worker("vm-1", 0)], ..Snapshot::default() }, &[]).1,
            "All is well: 0.0 a second, the longest wait 0 ms."
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
