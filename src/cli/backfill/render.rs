//! Reports for people.

use crate::{
    cli::{print_line, say},
    operations::backfill::{BackfillReport, CheckReport, RowCounts},
};

pub(super) fn report(report: &BackfillReport) -> anyhow::Result<()> {
    print_line(&format!("batch {}", report.batch))?;
    let counts = report.counts.0;
    if let Some(counts) = &counts {
        print_counts(counts)?;
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
    for file in &report.files {
        if let Some(results) = &file.results {
            print_line(&format!("results in {}", results.display()))?;
        }
        print_line(&format!("rejected rows in {}", file.rejected.display()))?;
    }
    match counts {
        None => say("not every row has been enqueued: run the same backfill command again"),
        Some(_) if !report.complete => say("not every row has ended"),
        Some(_) => {}
    }
    Ok(())
}

pub(super) fn check(report: &CheckReport) -> anyhow::Result<()> {
    print_line(&format!("batch {} (nothing was enqueued)", report.batch))?;
    print_counts(&report.counts)?;
    for file in &report.files {
        print_line(&format!("rejected rows in {}", file.rejected.display()))?;
    }
    Ok(())
}

fn print_counts(counts: &RowCounts) -> anyhow::Result<()> {
    figure("rows", counts.rows)?;
    figure("  rejected", counts.rejected)?;
    figure("  duplicates", counts.duplicates)?;
    figure("  valid", counts.valid)?;
    if counts.lookalikes > 0 { figure("  look alike", counts.lookalikes) } else { Ok(()) }
}

fn figure(name: &str, count: u64) -> anyhow::Result<()> {
    print_line(&format!("{name:<18}{count:>10}"))
}
