//! `xco-worker gateway`

use super::{Context, Exit, UsageError, open_files::OpenFiles, output::say, run::stop_on_signal};
use crate::gateway::{Gateway, GatewayError};
use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

/// Open files that the gateway needs besides its clients' connections: Redis, standard streams, the runtime.
const OWN_FILES: u64 = 64;

/// Flags of `gateway`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker gateway\n  \
    xco-worker gateway --listen 127.0.0.1:9000\n  \
    curl -d '{\"type\":\"CheckUser\",\"caller_id\":\"c\",\"args\":{\"email\":\"ada@example.com\"}}' \\\n      \
    -H 'Content-Type: application/json' -H 'Prefer: wait=10' http://127.0.0.1:8080/v1/jobs")]
pub struct GatewayArgs {
    /// Address for clients, instead of `gateway.listen`
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

/// Serves the gateway until a signal.
pub(super) async fn run(_args: GatewayArgs, context: Context) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let files = OpenFiles::read().map(OpenFiles::raise);
    let gateway = match Gateway::bind(context.config, context.metrics).await {
        Err(error @ (GatewayError::NoAddress | GatewayError::Open(_))) => {
            let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            return Err(UsageError(format!("{error}{remedy}")).into());
        }
        bound => bound.context("the gateway cannot start")?,
    };
    let most = files.map_or(usize::MAX, |files| usize::try_from(files.saturating_sub(OWN_FILES)).unwrap_or(usize::MAX));
    let gateway = gateway.at_most(most);
    say(&format!("the gateway listens on http://{}", gateway.address()));
    if let Some(address) = gateway.probe_address() {
        say(&format!("probes are answered on http://{address}"));
    }
    gateway.serve(stop).await;
    Ok(Exit::Done)
}
