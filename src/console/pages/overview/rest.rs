//! Rules in force, closed callers, backfills and workers.

use crate::{
    console::{
        sight::Sight,
        text::{clock, count_of, grouped, shown},
    },
    operations::{age, board::Look},
};
use askama::Template;

#[derive(Template)]
#[template(path = "parts/rules.html")]
pub(super) struct RulesPart {
    rules: Vec<RuleLine>,
    more: String,
    closed: String,
    backfills: Vec<String>,
}

struct RuleLine {
    is_pause: bool,
    jobs: String,
    who: String,
    until: String,
    reason: String,
}

pub(super) fn rules(look: &Look, sight: Sight) -> RulesPart {
    let snapshot = &look.snapshot;
    let rules: Vec<_> = snapshot
        .orders
        .iter()
        .take(5)
        .map(|rule| RuleLine {
            is_pause: rule.order == "pause",
            jobs: sight.selector(&rule.jobs),
            who: shown(&rule.who),
            until: rule.until.clone().unwrap_or_default(),
            reason: rule.reason.as_deref().map(shown).unwrap_or_default(),
        })
        .collect();
    let hidden = u64::try_from(snapshot.orders_total.saturating_sub(rules.len())).unwrap_or(0);
    let closed = snapshot.learned_limits.iter().filter(|limit| limit.closed_for_ms.is_some()).count();
    let closed = u64::try_from(closed).unwrap_or(0);
    let backfills = snapshot.backfills.iter().map(|backfill| {
        let of = backfill.valid.map_or_else(String::new, |valid| format!(" of {}", grouped(valid)));
        format!("{}: {}{of} rows ended", shown(&backfill.batch), grouped(backfill.ended))
    });
    RulesPart {
        rules,
        more: if hidden > 0 { count_of(hidden, "more rule", "more rules") } else { String::new() },
        closed: if closed > 0 {
            count_of(closed, "limit closed by XCO", "limits closed by XCO")
        } else {
            String::new()
        },
        backfills: backfills.take(5).collect(),
    }
}

impl RuleLine {
    fn until_clock(&self) -> &str {
        clock(&self.until)
    }
}

#[derive(Template)]
#[template(path = "parts/workers.html")]
pub(super) struct WorkersPart {
    title: String,
    workers: Vec<WorkerLine>,
}

struct WorkerLine {
    name: String,
    version: String,
    uptime: String,
    slots: String,
    calls: String,
    failed: String,
    /// For how long it is silent; empty: it is not.
    silent: String,
}

pub(super) fn workers(look: &Look) -> WorkersPart {
    let all = &look.snapshot.workers;
    let running = all.iter().filter(|worker| !worker.is_silent()).count();
    let workers = all.iter().take(50).map(|worker| {
        let beat = &worker.heartbeat;
        WorkerLine {
            name: shown(&worker.name),
            version: shown(&beat.version),
            uptime: age(worker.uptime_ms),
            slots: format!("{}/{}", beat.running.interactive + beat.running.bulk, beat.allowed),
            calls: grouped(beat.calls_last_minute),
            failed: grouped(beat.failures_last_minute),
            silent: if worker.is_silent() { age(worker.silent_ms) } else { String::new() },
        }
    });
    WorkersPart { title: format!("Workers {running} of {}", all.len()), workers: workers.collect() }
}
