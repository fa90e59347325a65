//! `dead replay`: prints an estimate, asks for confirmation, replays, and reports the result.

use super::{
    confirm::confirm,
    editor::in_editor,
    estimate,
    filter::FilterArgs,
    progress::ProgressLine,
    words::{counted, spoken},
};
use crate::{
    cli::{Context, Exit, UsageError, operator::this_operator, print_json, print_line, run::stop_on_signal, say},
    config::{Rate, parse_duration, parse_rate},
    operations::{
        Backend, Error,
        dead_letters::{
            self, Assignment, Changes, Filter, Scope, parse_pointer,
            replay::{self, ReplayReport, ReplayRequest},
        },
    },
};
use clap::Args;
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Flags of `dead replay`.
#[derive(Args)]
#[command(
    after_long_help = "Each dead letter moves in one atomic step: even if a process is killed, it is either a dead letter or a \
    job. After an interruption, the same command replays the rest. Dead letters that are written during a replay are not \
    part of it.\n\nExamples:\n  \
    xco-worker dead replay --error upstream,timeout --dry-run\n  \
    xco-worker dead replay --error upstream --since 2h --rate 100/s --wait 10m --yes\n  \
    xco-worker dead replay --id signup-42 --set /args/user/phone_number=+33612345678\n  \
    xco-worker dead replay --id signup-42 --edit"
)]
#[allow(clippy::struct_excessive_bools, reason = "independent flags")]
pub(super) struct ReplayArgs {
    /// Replay all dead letters; required without a filter
    #[arg(long)]
    all: bool,
    /// Maximum number of dead letters to replay, the oldest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only report what a replay would do
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    /// Maximum rate at which dead letters go back into the queue
    #[arg(long, value_name = "RATE", default_value = "50/s", value_parser = parse_rate)]
    rate: Rate,
    /// Wait at most this long for the replayed jobs to end, and report how they ended
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Also replay jobs that send a code, although the customer may have left
    #[arg(long)]
    force: bool,
    /// Also replay jobs whose call may already have taken effect
    #[arg(long)]
    accept_doubt: bool,
    /// Change a member of every job: a JSON Pointer, `=`, and the new value as JSON or text. Other users of this machine
    /// can see it: for real customers use --edit
    #[arg(long, value_name = "POINTER=VALUE")]
    set: Vec<Assignment>,
    /// Remove a member of every job
    #[arg(long, value_name = "POINTER", value_parser = parse_pointer)]
    unset: Vec<String>,
    /// Change the job of a single dead letter in $VISUAL or $EDITOR
    #[arg(long, conflicts_with_all = ["set", "unset"])]
    edit: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Prints an estimate, asks for confirmation, replays, and reports the result.
pub(super) async fn run(args: ReplayArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    if filter.is_empty() && !args.all {
        return Err(UsageError("say which dead letters (`--error upstream`, …), or --all".to_owned()).into());
    }
    let Context { config, json, .. } = context;
    let mut backend = Backend::connect(&config.redis).await?;
    let (scope, whole) = if args.edit {
        edited(&mut backend, &filter).await?
    } else {
        (dead_letters::scope(&mut backend, &filter).await?, None)
    };
    let request = ReplayRequest {
        filter,
        changes: Changes { set: args.set, unset: args.unset, whole },
        send_codes: args.force,
        accept_doubt: args.accept_doubt,
        rate: args.rate,
        limit: args.limit,
    };
    let plan = replay::plan(&mut backend, &config, request, scope).await?;
    if json {
        print_json(&json!({"plan": plan.estimate}))?;
    } else {
        print_line(&estimate::text(&plan.estimate))?;
    }
    if plan.estimate.replay == 0 {
        say("nothing can be replayed");
        return Ok(Exit::Failed);
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !confirm(args.yes, &format!("replay {}?", counted(plan.estimate.replay)))? {
        return Ok(Exit::Failed);
    }
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let progress = ProgressLine::new("replayed", !json);
    let ended = replay::run(&mut backend, &config, &this_operator(), &plan, args.wait, &progress, &stop).await;
    drop(progress);
    match ended {
        Ok(report) => {
            print_report(&report, json)?;
            let unfinished = report.ends.is_some_and(|ends| ends.outstanding > 0);
            Ok(if report.interrupted || unfinished || report.replayed == 0 { Exit::Failed } else { Exit::Done })
        }
        Err(unfinished) => {
            let error = anyhow::Error::new(unfinished.error);
            let Some(report) = unfinished.report else { return Err(error) };
            print_report(&report, json)?;
            let done = counted(report.replayed);
            Err(error.context(format!("after {done}; the same command goes on with what is left")))
        }
    }
}

/// Opens the job of the only dead letter that fits in an editor. Returns a scope with only this dead letter, and the job if it was
/// changed.
async fn edited(backend: &mut Backend<'_>, filter: &Filter) -> anyhow::Result<(Scope, Option<String>)> {
    let single = replay::single(backend, filter).await.map_err(|error| match error {
        Error::SeveralDeadLetters => anyhow::Error::new(UsageError(
            "--edit is for a single dead letter, and more than one fits: add --id".to_owned(),
        )),
        error => error.into(),
    })?;
    let after = tokio::task::spawn_blocking(move || in_editor(&single.job)).await??;
    if after.is_none() {
        say("nothing was changed in the job");
    }
    Ok((single.scope, after))
}

fn print_report(report: &ReplayReport, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&json!({"result": report}));
    }
    let cut = if report.interrupted { ", interrupted: the same command goes on with what is left" } else { "" };
    let took = spoken(Duration::from_millis(report.took_ms));
    print_line(&format!("{} replayed in {took}{cut}", counted(report.replayed)))?;
    if report.gone > 0 {
        print_line(&format!("{} were no longer there", report.gone))?;
    }
    if report.superseded > 0 {
        print_line(&format!("{} left where they are: another job has their id by now", report.superseded))?;
    }
    if let Some(ends) = &report.ends {
        for (outcome, count) in &ends.outcomes {
            print_line(&format!("{count:>9}  {outcome}"))?;
        }
        if ends.outstanding > 0 {
            print_line(&format!("{:>9}  not ended yet", ends.outstanding))?;
        }
    }
    Ok(())
}
