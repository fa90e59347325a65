//! `xco-worker doctor`

use super::{Context, Exit};
use clap::Args;

/// Flags of `doctor`: none beyond the global ones.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker doctor\n  \
    xco-worker --config config/purse-sandbox.toml doctor --json")]
pub struct DoctorArgs {}

#[allow(clippy::unused_async, reason = "replaced by the command")]
pub(super) async fn run(_args: DoctorArgs, _context: Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`doctor` is not built yet")
}
