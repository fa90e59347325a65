//! `xco-worker run`

use super::{Context, Exit};
use clap::Args;

/// Flags of `run`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker run\n  \
    xco-worker --config config/purse-sandbox.toml run --concurrency 128\n  \
    XCO_WORKER__REDIS__URL=redis://redis:6379 xco-worker run --listen 0.0.0.0:9464")]
pub struct RunArgs {
    /// Calls to XCO at once, 1 to 4096, instead of `worker.concurrency`
    #[arg(long, value_name = "N")]
    pub concurrency: Option<String>,
    /// Where /healthz, /readyz and /metrics are, or `off`, instead of `http.listen`
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

#[allow(clippy::unused_async, reason = "replaced by the command")]
pub(super) async fn run(_args: RunArgs, _context: Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`run` is not built yet")
}
