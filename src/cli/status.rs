//! `xco-worker status`: depths, ages, rates, what is delayed and why, errors, limits, rules in force and workers.

mod view;

use super::{Context, Exit, print_json, print_line, run::stop_on_signal, style::Style, width::Width};
use crate::{
    config::parse_duration,
    operations::{Backend, status::SnapshotCollector},
};
use clap::Args;
use std::{io::IsTerminal, time::Duration};
use tokio_util::sync::CancellationToken;

/// Maximum number of delayed jobs read for one snapshot, and for each of a series.
const MOST_DELAYED: usize = 100_000;
const MOST_DELAYED_WATCHING: usize = 5_000;

/// Clears the screen and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Flags of `status`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  xco-worker status\n  xco-worker status --watch\n  xco-worker status --json")]
pub struct StatusArgs {
    /// Repeat until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Time over which rates are measured, and interval of --watch; at least 200ms
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub every: Duration,
}

/// Prints the status once, or repeatedly until a signal.
pub(super) async fn run(args: StatusArgs, context: Context) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let every = args.every.max(Duration::from_millis(200));
    let mut backend = Backend::connect(&context.config.redis).await?;
    let most_delayed = if args.watch { MOST_DELAYED_WATCHING } else { MOST_DELAYED };
    let mut collector = SnapshotCollector::start(&mut backend, most_delayed).await?;
    let clears = args.watch && !context.json && std::io::stdout().is_terminal();
    loop {
        // Rates are the counts between two snapshots.
        tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Done),
            () = tokio::time::sleep(every) => {}
        }
        let snapshot = tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Done),
            snapshot = collector.collect(&mut backend) => snapshot?,
        };
        if context.json {
            print_json(&snapshot)?;
        } else {
            let clear = if clears { CLEAR } else { "" };
            let text = view::text(&snapshot, Style::of_stdout(), Width::of_stdout());
            print_line(&format!("{clear}{text}"))?;
        }
        if !args.watch {
            return Ok(Exit::Done);
        }
    }
}
