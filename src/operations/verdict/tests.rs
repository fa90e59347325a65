//! The order of the rules, their thresholds and their words.

use super::*;
use crate::{
    operations::{
        history::{Range, Since},
        status::{DeadLetters, Delayed, LaneFigures, Rates, RouteBreaker},
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
fn routes_that_fail_are_named_with_the_jobs_that_they_hold_back() {
    let mut snapshot = Snapshot { delayed: Delayed { exact: true, ..Delayed::default() }, ..well() };
    snapshot.breaker.routes = [("CheckUser", RouteBreaker::default())].into();
    let wanted = "XCO is failing for CheckUser. No job is held back for that.";
    assert_eq!(judge(&snapshot, &[]), (Severity::Bad, wanted.to_owned()));
    snapshot.breaker.routes.insert("CreateUser", RouteBreaker { open_for_ms: Some(5_000) });
    snapshot.delayed.by_reason = [(DelayReason::Breaker, 1_800), (DelayReason::RunAt, 7)].into();
    let wanted = "XCO is failing for CheckUser, CreateUser. 1,800 jobs are held back.";
    assert_eq!(judge(&snapshot, &[]), (Severity::Bad, wanted.to_owned()));
    snapshot.delayed.exact = false;
    assert!(judge(&snapshot, &[]).1.ends_with("About 1,800 jobs are held back."));
    // All calls together come first.
    snapshot.breaker.open = true;
    assert!(judge(&snapshot, &[]).1.starts_with("XCO is failing. "));
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
