//! `dead discard`

use super::{confirm::confirm, filter::FilterArgs, progress::ProgressLine, words::counted};
use crate::{
    cli::{Context, Exit, UsageError, operator::this_operator, print_json, print_line, run::stop_on_signal, say},
    operations::{
        Backend,
        dead_letters::{
            Filter,
            discard::{self, DiscardEstimate, DiscardReport},
        },
    },
};
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Flags of `dead discard`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker dead discard --error invalid_code --older-than 7d --dry-run\n  \
    xco-worker dead discard --id signup-42 --yes")]
pub(super) struct DiscardArgs {
    /// Discard all dead letters; required without a filter
    #[arg(long)]
    all: bool,
    /// Only report which dead letters would be removed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Counts the dead letters, asks for confirmation, and deletes them.
pub(super) async fn run(args: DiscardArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    if filter.is_empty() && !args.all {
        return Err(UsageError("say which dead letters (`--older-than 7d`, …), or --all".to_owned()).into());
    }
    let json = context.json;
    let mut backend = Backend::connect(&context.config.redis).await?;
    let plan = discard::plan(&mut backend, filter).await?;
    let count = plan.estimate.discard;
    print_estimate(&plan.estimate, json)?;
    if count == 0 {
        return Ok(Exit::Failed);
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !confirm(args.yes, &format!("remove {} for good?", counted(count)))? {
        return Ok(Exit::Failed);
    }
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let progress = ProgressLine::new("removed", !json);
    let ended = discard::run(&mut backend, &this_operator(), &plan, &progress, &stop).await;
    drop(progress);
    let report = match ended {
        Ok(report) => report,
        Err(unfinished) => {
            if let Some(report) = unfinished.report {
                print_report(report, json)?;
            }
            return Err(unfinished.error.into());
        }
    };
    print_report(report, json)?;
    if report.interrupted {
        say("interrupted: the same command goes on with what is left");
    }
    Ok(if report.interrupted || report.discarded == 0 { Exit::Failed } else { Exit::Done })
}

fn print_estimate(estimate: &DiscardEstimate, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&json!({"plan": estimate}));
    }
    print_line(&format!("{} to be removed for good", counted(estimate.discard)))?;
    for kind in &estimate.kinds {
        print_line(&format!("  {:>9}  {:<15}  {}", kind.count, kind.job_type, kind.error))?;
    }
    Ok(())
}

fn print_report(report: DiscardReport, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&json!({"result": report}));
    }
    print_line(&format!("{} removed", counted(report.discarded)))
}
