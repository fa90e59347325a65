//! `xco-worker doctor`

use super::{
    Context, Exit, open_files, print_json, print_line,
    style::{Style, Tone},
};
use crate::operations::health_checks::{self, HealthCheck, HealthStatus, Host};
use clap::Args;
use std::time::SystemTime;

/// Flags of `doctor`: none beyond the global ones.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker doctor\n  \
    xco-worker --config config/purse-sandbox.toml doctor --json")]
pub struct DoctorArgs {}

/// Runs all checks and prints them. Fails if a worker would not work.
pub(super) async fn run(_args: DoctorArgs, context: Context) -> anyhow::Result<Exit> {
    let Context { config, json, .. } = context;
    let style = Style::of_stdout();
    let host = Host { clock: SystemTime::now, checks: open_files::check(&config).into_iter().collect() };
    let report = health_checks::run(&config, host).await;
    for check in &report.checks {
        print(check, json, style)?;
    }
    let (failed, warned) = (report.count(HealthStatus::Fail), report.count(HealthStatus::Warn));
    if !json {
        print_line("")?;
        print_line(&match (failed, warned) {
            (0, 0) => "Everything is as it should be.".to_owned(),
            (0, warned) => format!("A worker would work; {warned} to look at."),
            (failed, 0) => format!("{failed} failed: a worker would not work."),
            (failed, warned) => format!("{failed} failed: a worker would not work; {warned} more to look at."),
        })?;
    }
    Ok(if failed > 0 { Exit::Failed } else { Exit::Done })
}

/// Prints a check: one line, and its remedy on the next; or one line of JSON.
fn print(check: &HealthCheck, json: bool, style: Style) -> anyhow::Result<()> {
    if json {
        return print_json(check);
    }
    let (word, tone) = match check.status {
        HealthStatus::Ok => ("ok", Tone::Good),
        HealthStatus::Warn => ("warn", Tone::Odd),
        HealthStatus::Fail => ("FAIL", Tone::Bad),
        HealthStatus::Skip => ("-", Tone::Faint),
    };
    print_line(&format!("{}  {:<20}  {}", style.paint(tone, &format!("{word:<4}")), check.name, check.detail))?;
    match &check.remedy {
        Some(remedy) => print_line(&format!("{:<28}{}", "", style.paint(Tone::Strong, &format!("-> {remedy}")))),
        None => Ok(()),
    }
}
