//! `xco-worker sandbox`

use super::{Context, DurationRange, Exit, HintExt, print_json, print_line, run::stop_on_signal};
use crate::{
    config::{Rate, parse_rate},
    sandbox::{Latency, Sandbox, SandboxConfig, SandboxLimit},
};
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tokio_util::sync::CancellationToken;

/// Any UUID is a merchant to the simulator.
pub(super) const SAMPLE_MERCHANT: &str = "3fa85f64-5717-4562-b3fc-2c963f66afa6";

/// Flags of `sandbox`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker sandbox\n  \
    xco-worker sandbox --latency 50ms..400ms --caller-limit 5/s --no-retry-after\n\n\
    It prints the settings that a worker needs to use it.")]
pub struct SandboxArgs {
    /// Address to listen on; with port 0, any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    pub listen: SocketAddr,
    /// Id of the OAuth client that receives tokens
    #[arg(long, value_name = "ID", default_value = "sandbox")]
    pub client_id: String,
    /// Secret of that client (for the simulator only: never use a real secret)
    #[arg(long, value_name = "TEXT", default_value = "sandbox")]
    pub client_secret: String,
    /// Latency of answers: a duration, or a range for random durations
    #[arg(long, value_name = "DURATION[..DURATION]", default_value_t = DurationRange { min: Duration::from_millis(20), max: Duration::from_millis(80) })]
    pub latency: DurationRange,
    /// Maximum number of calls processed at once; further calls wait [default: no maximum]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub capacity: Option<u16>,
    /// Rate of each caller above which the answer is 429 [default: unlimited]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub caller_limit: Option<Rate>,
    /// Rate of all calls without a caller, together, above which the answer is 429 [default: unlimited]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub client_limit: Option<Rate>,
    /// HTTP status of the answer to a wrong code
    #[arg(long, value_name = "STATUS", default_value_t = 400, value_parser = clap::value_parser!(u16).range(400..=499))]
    pub wrong_code_status: u16,
    /// Send no `Retry-After` with 429
    #[arg(long)]
    pub no_retry_after: bool,
    /// Seed of codes and latencies: the same seed gives the same ones
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Serves until a signal.
pub(super) async fn run(args: SandboxArgs, context: Context) -> anyhow::Result<Exit> {
    let limit = |rate: Rate| SandboxLimit { per_second: rate.per_second(), burst: rate.one_second_burst() };
    let defaults = SandboxConfig::default();
    let config = SandboxConfig {
        listen: args.listen,
        client_id: args.client_id,
        client_secret: args.client_secret,
        seed: args.seed.unwrap_or_else(rand::random),
        caller_limit: args.caller_limit.map(limit),
        client_limit: args.client_limit.map(limit),
        send_retry_after: !args.no_retry_after,
        latency: Latency { min: args.latency.min, max: args.latency.max },
        capacity: args.capacity.map(usize::from),
        wrong_code_status: args.wrong_code_status,
        ..defaults
    };
    let (client_id, client_secret) = (quoted(&config.client_id), quoted(&config.client_secret));
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let sandbox = Sandbox::start(config)
        .await
        .with_context(|| format!("{} cannot be listened on", args.listen))
        .hint("another program may have it: `--listen 127.0.0.1:0` takes any free port")?;
    let (base, token) = (sandbox.base_url(), sandbox.token_url());
    if context.json {
        print_json(&json!({"base_url": base.as_str(), "token_url": token.as_str()}))?;
    } else {
        print_line(&format!(
            "A simulated XCO listens on {base}\n\n\
             A worker for it, in another terminal:\n\n  \
             export XCO_WORKER__XCO__BASE_URL={base}\n  \
             export XCO_WORKER__XCO__TOKEN_URL={token}\n  \
             export XCO_WORKER__XCO__CLIENT_ID={client_id}\n  \
             export XCO_WORKER__XCO__CLIENT_SECRET={client_secret}\n  \
             export XCO_WORKER__XCO__MERCHANT_ID={SAMPLE_MERCHANT}\n  \
             xco-worker run\n\n\
             Codes it has \"sent\", what it was asked, and faults to order:\n\n  \
             curl '{base}_sandbox/otp?email=john@example.com'\n  \
             curl {base}_sandbox/state\n  \
             curl -X POST {base}_sandbox/outage -H 'content-type: application/json' -d '{{\"for_ms\": 5000}}'\n\n\
             Ctrl-C ends it, and everything it knows."
        ))?;
    }
    stop.cancelled().await;
    sandbox.shutdown().await;
    Ok(Exit::Done)
}

/// Quotes a value for a shell, if necessary.
fn quoted(text: &str) -> String {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
