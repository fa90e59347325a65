//! `xco-worker doctor`

use super::{
    Context, Exit, open_files, print_json, print_line,
    style::{Style, Tone},
    width::Width,
};
use crate::operations::{
    health_checks::{self, HealthCheck, HealthStatus, Host},
    printable,
};
use clap::Args;
use std::time::SystemTime;

/// Where the column of details begins, and from which width of the terminal on there is one.
const COLUMN: usize = 28;
const WITH_COLUMN: usize = 80;
/// The indentation of details on a narrow terminal.
const NARROW_COLUMN: usize = 6;

/// Flags of `doctor`: none beyond the global ones.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker doctor\n  \
    xco-worker --config config/purse-sandbox.toml doctor --json")]
pub struct DoctorArgs {}

/// Runs all checks and prints them. Fails if a worker would not work.
pub(super) async fn run(_args: DoctorArgs, context: Context) -> anyhow::Result<Exit> {
    let Context { config, json, .. } = context;
    let (style, width) = (Style::of_stdout(), Width::of_stdout());
    let host = Host { clock: SystemTime::now, checks: open_files::check(&config).into_iter().collect() };
    let report = health_checks::run(&config, host).await;
    for check in &report.checks {
        if json {
            print_json(check)?;
        } else {
            print_line(&text(check, style, width))?;
        }
    }
    let (failed, warned) = (report.count(HealthStatus::Fail), report.count(HealthStatus::Warn));
    if !json {
        print_line("")?;
        let conclusion = match (failed, warned, report.count(HealthStatus::Skip)) {
            (0, 0, 0) => "Everything is as it should be.".to_owned(),
            (0, 0, skipped) => format!("What was checked is as it should be; {skipped} not checked."),
            (0, warned, 0) => format!("A worker would work; {warned} to look at."),
            (0, warned, skipped) => format!("{warned} to look at; {skipped} not checked."),
            (failed, 0, _) => format!("{failed} failed: a worker with this configuration would not work."),
            (failed, warned, _) => {
                format!("{failed} failed: a worker with this configuration would not work; {warned} more to look at.")
            }
        };
        print_line(&width.wrap(&conclusion, 0))?;
    }
    Ok(if failed > 0 { Exit::Failed } else { Exit::Done })
}

/// A check, and below it its remedy. The details stand in a column of their own, if the terminal has room for it.
fn text(check: &HealthCheck, style: Style, width: Width) -> String {
    let (word, tone) = match check.status {
        HealthStatus::Ok => ("ok", Tone::Good),
        HealthStatus::Warn => ("warn", Tone::Odd),
        HealthStatus::Fail => ("FAIL", Tone::Bad),
        HealthStatus::Skip => ("-", Tone::Faint),
    };
    let indent = if width.fits(WITH_COLUMN) { COLUMN } else { NARROW_COLUMN };
    let check_line =
        format!("{}  {:<20}  {}", style.paint(tone, &format!("{word:<4}")), check.name, printable(&check.detail));
    let mut text = width.wrap(&check_line, indent);
    if let Some(remedy) = &check.remedy {
        let remedy = style.paint(Tone::Strong, &format!("-> {}", printable(remedy))).into_owned();
        text.push('\n');
        text.push_str(&width.wrap(&format!("{:<indent$}{remedy}", ""), indent + 3));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_fits_the_terminal() {
        let remedy = "set appendonly yes (and appendfsync everysec, or always) in redis.conf";
        let check = HealthCheck::warn(
            "redis persistence",
            "no append-only file: a crash of Redis loses jobs that it has acknowledged",
            remedy,
        );
        for columns in [60, 80] {
            let text = text(&check, Style::plain(), Width::columns(columns));
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
            assert!(text.starts_with("warn  redis persistence     no append-only file"), "{text}");
            let indent = if columns == 60 { NARROW_COLUMN } else { COLUMN };
            assert!(text.contains(&format!("\n{:<indent$}-> set appendonly", "")), "{text}");
        }
        let wide = text(&check, Style::plain(), Width::unlimited());
        assert_eq!(wide.lines().count(), 2, "{wide}");
    }
}
