//! `xco-worker sandbox`

use super::{Context, DurationRange, Exit};
use crate::config::{Rate, parse_rate};
use clap::Args;
use std::{net::SocketAddr, time::Duration};

/// Flags of `sandbox`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker sandbox\n  \
    xco-worker sandbox --latency 50ms..400ms --caller-limit 5/s --no-retry-after\n\n\
    A worker for it:\n  \
    XCO_WORKER__XCO__BASE_URL=http://127.0.0.1:8089 XCO_WORKER__XCO__TOKEN_URL=http://127.0.0.1:8089/oauth/token \\\n  \
    XCO_WORKER__XCO__CLIENT_ID=sandbox XCO_WORKER__XCO__CLIENT_SECRET=sandbox xco-worker run")]
pub struct SandboxArgs {
    /// Where it listens; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    pub listen: SocketAddr,
    /// The client that may have tokens
    #[arg(long, value_name = "ID", default_value = "sandbox")]
    pub client_id: String,
    /// Its secret (of the simulator only: give it no real one)
    #[arg(long, value_name = "TEXT", default_value = "sandbox")]
    pub client_secret: String,
    /// How long answers take: one duration, or a range to draw from
    #[arg(long, value_name = "DURATION[..DURATION]", default_value_t = DurationRange { min: Duration::from_millis(20), max: Duration::from_millis(80) })]
    pub latency: DurationRange,
    /// What each caller may spend before it is answered 429 [default: unlimited]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub caller_limit: Option<Rate>,
    /// What calls without a caller may spend together before they are answered 429 [default: unlimited]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub client_limit: Option<Rate>,
    /// The status that a wrong code is answered with
    #[arg(long, value_name = "STATUS", default_value_t = 400, value_parser = clap::value_parser!(u16).range(400..=499))]
    pub wrong_code_status: u16,
    /// Send no `Retry-After` with 429
    #[arg(long)]
    pub no_retry_after: bool,
    /// Makes the same codes, delays and faults again
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[allow(clippy::unused_async, reason = "replaced by the command")]
pub(super) async fn run(_args: SandboxArgs, _context: Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`sandbox` is not built yet")
}
