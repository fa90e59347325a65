//! Reports for people.

use super::conversions;
use crate::{
    cli::{print_line, say},
    operations::backfill::{BackfillReport, BackfillSummary, CheckReport, FileReport, Reason, RowCounts, Sizing},
};

pub(super) fn report(report: &BackfillReport) -> anyhow::Result<()> {
    print_line(&format!("batch {}", report.batch))?;
    let counts = report.counts.0;
    if let Some(counts) = &counts {
        print_counts(counts)?;
        print_reasons(&report.reasons)?;
    }
    figure("enqueued", report.enqueued)?;
    for (outcome, count) in &report.outcomes {
        figure(&format!("  {outcome}"), *count)?;
    }
    if report.pending > 0 {
        figure("  pending", report.pending)?;
    }
    if !report.errors.is_empty() {
        print_line("errors")?;
        for (error, count) in &report.errors {
            figure(&format!("  {error}"), *count)?;
        }
    }
    if !report.not_compared.is_empty() {
        let batches = report.not_compared.join(", ");
        say(&format!(
            "needs_consent may count customers that these batches created, because Redis does not know whom: {batches}"
        ));
    }
    for file in &report.files {
        if let Some(results) = &file.results {
            print_line(&format!("results in {}", results.display()))?;
        }
        print_rejected(file)?;
    }
    let is_enqueued = counts.is_some_and(|counts| counts.valid <= report.enqueued);
    match counts.filter(|_| is_enqueued) {
        None => say("not every row has been enqueued: run the same backfill command again"),
        Some(_) if !report.complete => say("not every row has ended"),
        Some(_) => {}
    }
    Ok(())
}

pub(super) fn check(report: &CheckReport) -> anyhow::Result<()> {
    print_line(&format!("batch {} (nothing was enqueued)", report.batch))?;
    print_counts(&report.counts)?;
    print_reasons(&report.reasons)?;
    conversions::print(&report.conversions)?;
    if let Some(sizing) = &report.sizing {
        print_sizing(sizing)?;
    }
    for file in &report.files {
        print_rejected(file)?;
    }
    Ok(())
}

/// One line for each backfill.
pub(super) fn list(backfills: &[BackfillSummary]) -> anyhow::Result<()> {
    if backfills.is_empty() {
        return print_line("no backfill within the last 30 days");
    }
    for backfill in backfills {
        let valid = backfill.valid.map_or_else(|| "?".to_owned(), |valid| valid.to_string());
        let mut parts = vec![format!("{} of {valid} rows ended", backfill.ended)];
        let rejected = backfill.rejected.unwrap_or(0);
        for (count, what) in [(backfill.unsuccessful, "without success"), (rejected, "rejected")] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        if !backfill.complete {
            parts.push("not complete".to_owned());
        }
        print_line(&format!("{}  {}  {}", backfill.begun_at, backfill.batch, parts.join(", ")))?;
    }
    Ok(())
}

fn print_sizing(sizing: &Sizing) -> anyhow::Result<()> {
    print_line("at most, as if every customer were new")?;
    figure("  calls", sizing.calls)?;
    match (sizing.hours, sizing.calls_per_second) {
        (Some(hours), Some(rate)) => {
            print_line(&format!("  {:<16}{hours:>10.1}  (limits.total: {rate:.0} calls a second)", "hours"))?;
        }
        _ => print_line("  hours: limits.total is not set")?,
    }
    figure("  MB of Redis", sizing.redis_bytes.div_ceil(1_000_000))?;
    if !sizing.completions_fit {
        print_line(
            "  completions.max_bytes keeps not all completions: leave the command running until all rows have ended",
        )?;
    }
    Ok(())
}

fn print_rejected(file: &FileReport) -> anyhow::Result<()> {
    match &file.rejected {
        Some(rejected) => print_line(&format!("rejected rows in {}", rejected.display())),
        None => Ok(()),
    }
}

/// Reasons shown of those that rows are rejected for.
const REASONS_SHOWN: usize = 10;

fn reason_lines(reasons: &[Reason]) -> Vec<String> {
    let line = |Reason { column, reason, rows, first }: &Reason| {
        let what = format!("{column} {reason}");
        format!("{rows:>10}  {} (first: line {first})", what.trim())
    };
    let mut lines: Vec<_> = reasons.iter().take(REASONS_SHOWN).map(line).collect();
    if let more @ 1.. = reasons.len().saturating_sub(REASONS_SHOWN) {
        lines.push(format!("            and {more} other reasons"));
    }
    lines
}

/// Says on stderr why rows are not enqueued.
pub(super) fn note_reasons(reasons: &[Reason]) {
    if !reasons.is_empty() {
        say("rows that are not enqueued:");
        for line in reason_lines(reasons) {
            say(&line);
        }
    }
}

fn print_reasons(reasons: &[Reason]) -> anyhow::Result<()> {
    if !reasons.is_empty() {
        print_line("reasons")?;
    }
    reason_lines(reasons).iter().try_for_each(|line| print_line(line))
}

fn print_counts(counts: &RowCounts) -> anyhow::Result<()> {
    figure("rows", counts.rows)?;
    figure("  rejected", counts.rejected)?;
    figure("  duplicates", counts.duplicates)?;
    figure("  valid", counts.valid)?;
    for (name, count) in [("  corrected", counts.corrected), ("  look alike", counts.lookalikes)] {
        if count > 0 {
            figure(name, count)?;
        }
    }
    Ok(())
}

fn figure(name: &str, count: u64) -> anyhow::Result<()> {
    print_line(&format!("{name:<18}{count:>10}"))
}
