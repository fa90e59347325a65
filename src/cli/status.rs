//! `xco-worker status`: depths, ages, rates, what is delayed and why, errors, limits, orders and workers.

mod gather;
mod picture;
mod view;

use super::{
    Context, Exit, print_json, print_line,
    redis_access::{connect, unreachable},
    run::stop_on_signal,
    style::Style,
};
use crate::{config::parse_duration, queue::Link};
use clap::Args;
use gather::Gatherer;
use picture::Picture;
use std::{io::IsTerminal, time::Duration};
use tokio_util::sync::CancellationToken;

/// Parked jobs looked at for one picture, and for each of many.
const LOOK_AT: usize = 100_000;
const LOOK_AT_WATCHING: usize = 5_000;

/// Clears the screen and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Flags of `status`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  xco-worker status\n  xco-worker status --watch\n  xco-worker status --json")]
pub struct StatusArgs {
    /// Draw it again and again, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// How often, with --watch, and over which time rates are taken; 200ms at least
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub every: Duration,
}

/// Shows how things are, once or until a signal.
pub(super) async fn run(args: StatusArgs, context: Context) -> anyhow::Result<Exit> {
    let redis = &context.config.redis;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let every = args.every.max(Duration::from_millis(200));
    let mut link: Link = connect(redis).await?;
    let look_at = if args.watch { LOOK_AT_WATCHING } else { LOOK_AT };
    let mut gatherer = Gatherer::new(redis, look_at);
    gatherer.totals(&mut link).await.map_err(|error| unreachable(redis, &error))?;
    let clears = args.watch && !context.json && std::io::stdout().is_terminal();
    loop {
        // Rates are what was counted between two looks.
        tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Done),
            () = tokio::time::sleep(every) => {}
        }
        let picture: Picture = tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Done),
            picture = gatherer.picture(&mut link) => picture.map_err(|error| unreachable(redis, &error))?,
        };
        if context.json {
            print_json(&picture)?;
        } else {
            let clear = if clears { CLEAR } else { "" };
            print_line(&format!("{clear}{}", view::text(&picture, Style::of_stdout())))?;
        }
        if !args.watch {
            return Ok(Exit::Done);
        }
    }
}
