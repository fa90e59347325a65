//! `xco-worker why`: where a job is, what it waits for, and until when.

use super::{Context, Exit, print_json, print_line, search_progress::SearchProgress};
use crate::operations::{Backend, MerchantScope, jobs};
use clap::Args;
use serde_json::json;

/// Flags of `why`.
#[derive(Args)]
#[command(
    after_long_help = "Examples:\n  xco-worker why signup-42\n  xco-worker why interactive:0:1732265000000-0 --json"
)]
pub struct WhyArgs {
    /// Id of the job
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Explains the state of a job. Exit 1 if the job is unknown.
pub(super) async fn run(args: WhyArgs, context: Context) -> anyhow::Result<Exit> {
    let mut backend = Backend::connect(&context.config.redis).await?;
    let progress = SearchProgress::on_stderr();
    let everyone = MerchantScope::all();
    let explanation = jobs::explain(&mut backend, &context.config, &args.id, &everyone, &progress).await?;
    if context.json {
        print_json(&json!(explanation))?;
    } else {
        for line in &explanation.words {
            print_line(line)?;
        }
    }
    Ok(if explanation.is_known() { Exit::Done } else { Exit::Failed })
}
