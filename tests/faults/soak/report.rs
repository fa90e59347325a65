//! The report at the end of a soak.

use super::{calls::Calls, crew::Crew, ledger::Nature, world::World};
use std::{collections::BTreeMap, fmt::Write, time::Duration};

pub(crate) fn totals(world: &World, calls: &Calls, crew: &Crew, took: Duration) -> String {
    let ledger = world.ledger.borrow();
    let count = |is: &dyn Fn(&super::ledger::Entry) -> bool| ledger.entries().filter(|(_, entry)| is(entry)).count();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<44} {value:>12}");
    };
    line("jobs accepted", ledger.accepted.to_string());
    line("jobs completed", ledger.completed.to_string());
    line("missing", count(&|entry| entry.certain && entry.completions == 0).to_string());
    line("duplicate", count(&|entry| entry.completions > entry.sent.max(1)).to_string());
    line("duplicates enqueued", ledger.duplicates_sent.to_string());
    line("enqueued again, the first time unanswered", ledger.resent.to_string());
    line("calls of XCO", calls.seen.to_string());
    line("over a limit, for all that faults explain", calls.over_limit.to_string());
    let judged = world.admissions.borrow().judge();
    line("admissions, by Redis's clock", judged.seen.to_string());
    line("over a limit", judged.over_limit.len().to_string());
    line("refused by XCO's own limits", calls.refused_by_limit.to_string());
    line("refused in an outage", calls.in_outage.to_string());
    line("unsafe calls repeated in doubt", calls.repeated.to_string());
    let [clear, held] = calls.ahead_us.map(|us| us / 1_000);
    line("jobs called for by two workers at once", count(&|entry| entry.calls > entry.attempts).to_string());
    line("ahead of its bucket at most, ms", clear.to_string());
    line("the same, while faults held calls back, ms", held.to_string());
    line("replies compared", world.replies_checked.get().to_string());
    line("batches compared", ledger.batches.len().saturating_sub(1).to_string());
    line("workers started", crew.spawned.to_string());
    line("taken over (as far as could be read)", crew.reclaimed.to_string());
    line("a worker's memory at most, MiB", (crew.most_rss_kib / 1_024).to_string());
    let [lost, torn, _, reset] = crew.broken();
    line("replies lost, torn; answers reset", format!("{lost}, {torn}; {reset}"));
    let _ = writeln!(text, "faults");
    let mut faults = 0;
    for (kind, times) in world.struck_by_kind() {
        faults += times;
        let _ = writeln!(text, "  {kind:<44} {times:>12}");
    }
    let _ = writeln!(text, "  {:<44} {faults:>12}", "in all");
    let _ = writeln!(text, "completions");
    for (name, times) in &ledger.tally {
        let _ = writeln!(text, "  {name:<44} {times:>12}");
    }
    let _ = writeln!(text, "calls by status (0: ended without an answer)");
    for (status, times) in &calls.by_status {
        let _ = writeln!(text, "  {status:<44} {times:>12}");
    }
    let _ = writeln!(text, "{} jobs a second over {} s", ledger.completed / took.as_secs().max(1), took.as_secs());
    if let Some(worst) = &calls.worst {
        let _ = writeln!(text, "the call that came soonest in clear weather: {worst}");
    }
    text
}

/// One line of progress.
pub(crate) fn progress(world: &World, calls: &Calls, crew: &Crew, since: Duration) -> String {
    let ledger = world.ledger.borrow();
    format!(
        "{:5} s  accepted {}  completed {}  under way {}  faults {}  calls {}  over limit {}  rss {} MiB",
        since.as_secs(),
        ledger.accepted,
        ledger.completed,
        ledger.outstanding(),
        world.struck.borrow().len(),
        calls.seen,
        calls.over_limit,
        crew.most_rss_kib / 1_024,
    )
}

/// Compares every job with its calls: missing jobs, attempts that were not made, calls that no completion accounts for.
pub(crate) fn accounts(world: &World) -> Vec<(usize, String)> {
    let ledger = world.ledger.borrow();
    let mut wrong = BTreeMap::new();
    for (number, entry) in ledger.entries() {
        if entry.certain && entry.completions == 0 {
            wrong.insert(number, "missing: it never ended".to_owned());
        } else if entry.calls - entry.refused > entry.attempts && !entry.nature.is_safe() {
            wrong.insert(number, format!("{} calls arrived, {} attempts are owned up to", entry.calls, entry.attempts));
        } else if entry.given_up && entry.attempts.saturating_sub(entry.limited + entry.refused) < most(entry.nature) {
            wrong.insert(
                number,
                format!(
                    "given up after {} attempts, of which {} were 429s and {} were 401s, where {} may fail",
                    entry.attempts,
                    entry.limited,
                    entry.refused,
                    most(entry.nature)
                ),
            );
        }
    }
    wrong.into_iter().collect()
}

const fn most(nature: Nature) -> u16 {
    nature.max_attempts()
}
