//! `xco-worker doctor`

mod check;
mod completions;
mod host;
mod redis;
mod removed;
mod server;
mod strays;
mod workers;
mod xco;

use super::{Context, Exit, print_line, shared_limits, style::Style};
use check::{Check, Verdict};
use clap::Args;
use std::time::Duration;

/// Flags of `doctor`: none beyond the global ones.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker doctor\n  \
    xco-worker --config config/purse-sandbox.toml doctor --json")]
pub struct DoctorArgs {}

/// Runs the checks of Redis and of XCO side by side.
pub(super) async fn run(_args: DoctorArgs, context: Context) -> anyhow::Result<Exit> {
    let Context { config, json, .. } = context;
    let style = Style::of_stdout();
    // Faults of the configuration itself end every command before it begins.
    let mut checks = vec![Check::ok("configuration", "read, and every value is valid")];
    let longest = config.redis.connect_timeout + config.redis.response_timeout + Duration::from_secs(1);
    let (redis, xco) = tokio::join!(redis::checks(&config, longest), xco::checks(&config.xco));
    checks.extend(redis);
    checks.extend(xco);
    checks.extend(host::checks(&config));
    let complaints = shared_limits::complaints(&config);
    checks.extend(complaints.into_iter().map(|said| Check::warn("limits", said, shared_limits::REMEDY)));
    for check in &checks {
        check.print(json, style)?;
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
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
