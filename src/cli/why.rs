//! `xco-worker why`: where a job is, what it waits for, and until when.

use super::{Context, Exit, output::say, print_json, print_line, search_progress::SearchProgress};
use crate::operations::{
    Backend, MerchantScope,
    jobs::{self, SearchBounds},
};
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
    /// Look through everything. Without this flag, at most 200,000 jobs of each stream and 100,000 completions are looked through for
    /// a job that the index of ids does not know
    #[arg(long)]
    pub all: bool,
}

/// Explains the state of a job. Exit 1 if the job is unknown.
pub(super) async fn run(args: WhyArgs, context: Context) -> anyhow::Result<Exit> {
    let mut backend = Backend::connect(&context.config.redis).await?;
    let progress = SearchProgress::on_stderr();
    let everyone = MerchantScope::all();
    let WhyArgs { id, all } = args;
    let (bounds, config) = (if all { SearchBounds::NONE } else { SearchBounds::default() }, &context.config);
    let explanation = jobs::explain_within(&mut backend, config, &id, &everyone, bounds, &progress).await?;
    if context.json {
        print_json(&json!(explanation))?;
    } else {
        for line in &explanation.words {
            print_line(line)?;
        }
    }
    if explanation.has_more() {
        say("`--all` looks through the rest");
    }
    Ok(if explanation.is_known() { Exit::Done } else { Exit::Failed })
}
