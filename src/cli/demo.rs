//! `xco-worker demo`

use super::{Context, Exit};
use clap::Args;

/// Flags of `demo`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker demo\n  \
    xco-worker demo --once --signups 100 --seed 7")]
pub struct DemoArgs {
    /// End when the sample is through, with a summary; exit 1 if anything was lost
    #[arg(long)]
    pub once: bool,
    /// How many customers sign up
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub signups: u32,
    /// Leave the Redis that the demo started, and its data, when the demo ends
    #[arg(long)]
    pub keep: bool,
    /// Makes the same customers and faults again
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[allow(clippy::unused_async, reason = "replaced by the command")]
pub(super) async fn run(_args: DemoArgs, _context: Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`demo` is not built yet")
}
