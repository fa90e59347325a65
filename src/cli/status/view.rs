//! A status snapshot for people.

use crate::{
    cli::{
        rows::printable,
        style::{Style, Tone},
        width::Width,
    },
    operations::{
        age,
        status::{BackfillFigures, Snapshot},
    },
};
use std::{collections::BTreeMap, fmt::Write};

/// The whole text.
pub(super) fn text(snapshot: &Snapshot, style: Style, width: Width) -> String {
    let mut out = String::new();
    let heading = |text: &str| style.paint(Tone::Strong, text).into_owned();
    let _ = writeln!(out, "{}", style.paint(Tone::Faint, &snapshot.at));
    let _ = writeln!(out, "{}", heading(&format!("{:<14}{:>10}{:>11}  {}", "LANE", "WAITING", "IN FLIGHT", "OLDEST")));
    for (lane, figures) in snapshot.lanes.iter().rev() {
        let oldest = if figures.waiting + figures.in_flight > 0 { age(figures.oldest_ms) } else { "-".to_owned() };
        let paused = if figures.paused { style.paint(Tone::Odd, "  paused").into_owned() } else { String::new() };
        let _ = writeln!(out, "{lane:<14}{:>10}{:>11}  {oldest}{paused}", figures.waiting, figures.in_flight);
    }
    let about = if snapshot.delayed.exact { "" } else { "about " };
    let _ = writeln!(
        out,
        "{} {}{}",
        heading("delayed"),
        snapshot.delayed.total,
        counts(&snapshot.delayed.by_reason, about)
    );
    let rates: BTreeMap<_, _> =
        snapshot.rates.by_status.iter().map(|(status, rate)| (status.as_str(), format!("{rate:.1}"))).collect();
    let _ = writeln!(out, "{} {:.1}/s{}", heading("completions"), snapshot.rates.per_second, counts(&rates, ""));
    let _ = writeln!(out, "{} {}{}", heading("dead letters"), snapshot.dead_letters.total, dead(snapshot));
    match snapshot.breaker.open_for_ms {
        Some(ms) => {
            let refused = snapshot.workers.iter().any(|worker| worker.heartbeat.breaker_reason.is_some());
            let why = if refused {
                "XCO refuses this client (401, 403; see the worker's log)"
            } else {
                "XCO cannot be reached"
            };
            let open = format!("open: {why}, no job is taken for another {}", age(ms));
            let _ = writeln!(out, "{} {}", heading("breaker"), style.paint(Tone::Bad, &open));
        }
        None if snapshot.breaker.routes.is_empty() => {
            let _ = writeln!(out, "{} closed", heading("breaker"));
        }
        None => {}
    }
    for (route, breaker) in &snapshot.breaker.routes {
        let until = match breaker.open_for_ms {
            Some(ms) => format!("jobs that make this call wait for another {}", age(ms)),
            None => "one such call at a time is tried".to_owned(),
        };
        let open = style.paint(Tone::Bad, &format!("open: XCO fails, {until}")).into_owned();
        let _ = writeln!(out, "{} {open}", heading(&format!("breaker {route}")));
    }
    limits(&mut out, snapshot, style);
    overrides(&mut out, snapshot, style);
    rules(&mut out, snapshot, style);
    backfills(&mut out, snapshot, style);
    workers(&mut out, snapshot, style, width);
    out.truncate(out.trim_end().len());
    width.wrap(&out, 4)
}

/// `: limit 3, retry 1`, or nothing.
fn counts<K: std::fmt::Display, V: std::fmt::Display>(counts: &BTreeMap<K, V>, about: &str) -> String {
    let listed: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {about}{count}")).collect();
    if listed.is_empty() { String::new() } else { printable(&format!(": {}", listed.join(", "))) }
}

fn dead(snapshot: &Snapshot) -> String {
    let dead = &snapshot.dead_letters;
    let of_the_last =
        if dead.looked_at < dead.total { format!(" (of the last {})", dead.looked_at) } else { String::new() };
    format!("{}{of_the_last}", counts(&dead.by_kind, ""))
}

fn limits(out: &mut String, snapshot: &Snapshot, style: Style) {
    if snapshot.learned_limits.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, "limits that met 429s"));
    for limit in &snapshot.learned_limits {
        let mut facts = vec![format!("last at {}", limit.last_429_at)];
        facts.extend(limit.calls_per_second.map(|rate| format!("learned {rate:.2}/s")));
        facts.extend(limit.closed_for_ms.map(|ms| format!("closed for {}", age(ms))));
        let _ = writeln!(out, "  {}  {}", printable(&limit.bucket), facts.join(", "));
    }
}

fn overrides(out: &mut String, snapshot: &Snapshot, style: Style) {
    if snapshot.overrides.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, "limits that operators changed"));
    for set in &snapshot.overrides {
        let reason = set.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let line = format!("  {} {}  by {} from {} at {}{reason}", set.name, set.value, set.who, set.from, set.at);
        let _ = writeln!(out, "{}", printable(&line));
    }
}

fn rules(out: &mut String, snapshot: &Snapshot, style: Style) {
    if snapshot.orders.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, "rules in force"));
    for order in &snapshot.orders {
        let until = order.until.as_ref().map(|until| format!(", until {until}")).unwrap_or_default();
        let reason = order.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let by = format!("by {} from {} at {}{until}{reason}", order.who, order.from, order.at);
        let line = format!("  {:<7} {}  {by}", order.order, order.jobs.describe());
        let _ = writeln!(out, "{}", printable(&line));
    }
    if snapshot.orders_total > snapshot.orders.len() {
        let _ = writeln!(out, "  and {} more", snapshot.orders_total - snapshot.orders.len());
    }
}

fn backfills(out: &mut String, snapshot: &Snapshot, style: Style) {
    if snapshot.backfills.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, "backfills that have not ended"));
    for backfill in &snapshot.backfills {
        let BackfillFigures { batch, begun_at, valid, ended, unsuccessful, pending } = backfill;
        let rows = match (valid, pending) {
            (Some(valid), Some(pending)) => format!("{ended} of {valid} rows ended, {pending} pending"),
            _ => format!("{ended} rows ended"),
        };
        let line = format!("  {batch}  {rows}, {unsuccessful} without success, last run began at {begun_at}");
        let _ = writeln!(out, "{}", printable(&line));
    }
}

fn workers(out: &mut String, snapshot: &Snapshot, style: Style, width: Width) {
    if snapshot.workers.is_empty() {
        let _ = writeln!(out, "{}", style.paint(Tone::Bad, "no worker is running"));
        return;
    }
    let columns = format!("{:<40}{:<10}{:<10}{:>8}{:>10}", "WORKER", "VERSION", "UP", "SLOTS", "CALLS/MIN");
    let is_table = width.fits(columns.len());
    let heading = if is_table { columns.as_str() } else { "workers" };
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, heading));
    for worker in &snapshot.workers {
        let beat = &worker.heartbeat;
        let running = beat.running.interactive + beat.running.bulk;
        let (up, slots) = (age(worker.uptime_ms), format!("{running}/{}", beat.allowed));
        let (name, version, calls) = (&worker.name, &beat.version, beat.calls_last_minute);
        let mut line = if is_table {
            format!("{name:<40}{version:<10}{up:<10}{slots:>8}{calls:>10}")
        } else {
            format!("  {name}  {version}  up {up}  slots {slots}  {calls} calls/min")
        };
        if beat.failures_last_minute > 0 {
            let _ = write!(line, "  {} failed", beat.failures_last_minute);
        }
        if worker.is_silent() {
            let _ = write!(line, "  silent for {}", age(worker.silent_ms));
        }
        let _ = writeln!(out, "{}", printable(&line));
    }
    for difference in &snapshot.differing_settings {
        let line = printable(&format!("workers differ: {difference}"));
        let _ = writeln!(out, "{}", style.paint(Tone::Odd, &line));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::operations::{
        jobs::DelayReason,
        status::{Delayed, LaneFigures, WorkerFigures},
    };
    use serde_json::json;

    #[test]
    fn an_idle_queue_without_workers_says_so() {
        let lanes = [
            ("bulk", LaneFigures::default()),
            ("interactive", LaneFigures { waiting: 3, oldest_ms: 61_000, ..LaneFigures::default() }),
        ];
        let delayed = Delayed { total: 7, by_reason: [(DelayReason::Limit, 7)].into(), exact: false };
        let snapshot = Snapshot { lanes: lanes.into(), delayed, ..Snapshot::default() };
        let text = text(&snapshot, Style::plain(), Width::unlimited());
        assert!(
            text.contains("interactive            3          0  1 m 1 s\nbulk                   0          0  -"),
            "{text}"
        );
        assert!(text.contains("delayed 7: limit about 7"), "{text}");
        assert!(text.ends_with("no worker is running"), "{text}");
    }

    #[test]
    fn every_line_fits_the_terminal() {
        let heartbeat = serde_json::from_value(json!({
            "version": "0.1.0", "host": "h", "pid": 1, "started_at_ms": 0, "seen_at_ms": 0, "slots": 64, "allowed": 64,
            "running": {"interactive": 3, "bulk": 0}, "calls_last_minute": 1200, "failures_last_minute": 3,
            "breaker": "closed", "ready": true,
        }));
        let name = "shop-host-1-4711-5f3a9c".to_owned();
        let worker = WorkerFigures { name, silent_ms: 60_000, uptime_ms: 61_000, heartbeat: heartbeat.unwrap() };
        let by_reason = [DelayReason::Limit, DelayReason::Retry, DelayReason::RunAt].map(|reason| (reason, 123_456));
        let delayed = Delayed { total: 370_368, by_reason: by_reason.into(), exact: false };
        let snapshot = Snapshot { workers: vec![worker], delayed, ..Snapshot::default() };
        for columns in [60, 80] {
            let text = text(&snapshot, Style::plain(), Width::columns(columns));
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
            assert!(text.contains("3 failed") && text.contains("shop-host-1-4711-5f3a9c"), "{text}");
        }
    }
}
