//! `xco-worker limits`: limits and concurrency while workers run

use super::{
    Context, Exit, HintExt, UsageError,
    operator::this_operator,
    output::say,
    print_json, print_line,
    rows::printable,
    style::{Style, Tone},
};
use crate::operations::{
    Backend,
    limits::{
        self, ConfiguredLimit, LimitChange, LimitError, LimitSetting, LimitsChanged, LimitsReport, ResetRequest,
        SetRequest,
    },
};
use clap::{Args, Subcommand};
use std::fmt::Write;

/// Flags of `limits`.
#[derive(Args)]
pub struct LimitsArgs {
    #[command(subcommand)]
    command: LimitsCommand,
}

/// The subcommands of `limits`.
#[derive(Subcommand)]
enum LimitsCommand {
    /// List the limits and the concurrency in force, and what the configuration says where they differ
    List,
    /// Change limits or the concurrency of all workers, without a restart
    ///
    /// The names are caller.rate, caller.burst, client.rate, client.burst, total.rate, total.burst and concurrency. A rate is 10/s, 3/m or
    /// 100/h, or `off` for no limit. The change is kept in Redis, is recorded in the audit, and holds until `limits reset`, also on
    /// workers that start later. Waits up to 3 s until it is in force on every running worker.
    Set(SetArgs),
    /// Return to what the configuration of the workers says
    Reset(ResetArgs),
}

/// Flags of `limits set`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker limits set caller.rate 20/s\n  \
    xco-worker limits set total.rate 100/s total.burst 100 --reason \"XCO asked\"\n  \
    xco-worker limits set concurrency 16")]
struct SetArgs {
    /// The limit and its new value; several pairs change in one step
    #[arg(value_names = ["NAME", "VALUE"], num_args = 2.., required = true)]
    pairs: Vec<String>,
    /// Why; shown with the limit and in the audit. Name no customer
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Flags of `limits reset`.
#[derive(Args)]
#[command(
    after_long_help = "Examples:\n  xco-worker limits reset total.rate total.burst\n  xco-worker limits reset --all"
)]
struct ResetArgs {
    /// The limits
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Why, for the audit. Name no customer
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Lists or changes limits.
pub(super) async fn run(args: LimitsArgs, context: Context) -> anyhow::Result<Exit> {
    match args.command {
        LimitsCommand::List => list(&context).await,
        LimitsCommand::Set(args) => set(args, &context).await,
        LimitsCommand::Reset(args) => reset(args, &context).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<Exit> {
    let mut backend = Backend::connect(&context.config.redis).await?;
    let report = limits::list(&mut backend, &context.config).await?;
    print(&report, context)?;
    Ok(Exit::Done)
}

async fn set(args: SetArgs, context: &Context) -> anyhow::Result<Exit> {
    let pairs = args.pairs.chunks(2).map(|pair| match pair {
        [name, value] => LimitChange::parse(name, value).or_else(refused),
        _ => Err(UsageError("each limit needs a value: limits set NAME VALUE".to_owned()).into()),
    });
    let request = SetRequest { changes: pairs.collect::<anyhow::Result<_>>()?, reason: args.reason };
    let mut backend = Backend::connect(&context.config.redis).await?;
    let changed = limits::set(&mut backend, &context.config, &this_operator(), &request).await.or_else(refused)?;
    conclude(&changed, context)?;
    Ok(Exit::Done)
}

async fn reset(args: ResetArgs, context: &Context) -> anyhow::Result<Exit> {
    let parse =
        |name: &String| LimitSetting::parse(name).ok_or_else(|| LimitError::unknown_name(name)).or_else(refused);
    let settings = if args.all {
        LimitSetting::ALL.to_vec()
    } else {
        args.names.iter().map(parse).collect::<anyhow::Result<_>>()?
    };
    let request = ResetRequest { settings, reason: args.reason };
    let mut backend = Backend::connect(&context.config.redis).await?;
    let changed = limits::reset(&mut backend, &context.config, &this_operator(), &request).await.or_else(refused)?;
    conclude(&changed, context)?;
    if changed.changed == 0 && !args.all {
        say("nothing was changed: the configuration was in force already");
    }
    Ok(Exit::Done)
}

/// A wrong request is wrong usage.
fn refused<T>(error: LimitError) -> anyhow::Result<T> {
    let remedy = error.remedy();
    let failed = match error {
        LimitError::Queue(error) => return Err(error.into()),
        wrong => UsageError(printable(&wrong.to_string())),
    };
    match remedy {
        Some(remedy) => Err(failed).hint(remedy),
        None => Err(failed.into()),
    }
}

fn conclude(changed: &LimitsChanged, context: &Context) -> anyhow::Result<()> {
    if context.json {
        return print_json(changed);
    }
    print(&changed.report, context)?;
    if changed.brought_forward > 0 {
        say(&format!("{} waiting jobs come earlier", changed.brought_forward));
    }
    Ok(())
}

fn print(report: &LimitsReport, context: &Context) -> anyhow::Result<()> {
    if context.json {
        return print_json(report);
    }
    for line in lines(report, Style::of_stdout()) {
        print_line(&line)?;
    }
    say(&report.in_force.to_string());
    Ok(())
}

fn lines(report: &LimitsReport, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    for limit in &report.limits {
        let now = limit_text(limit.rate.as_deref(), limit.burst);
        let file = limit.file.as_ref().map(|ConfiguredLimit { rate, burst }| limit_text(rate.as_deref(), *burst));
        let origin = origin(&limit.from, limit.at.as_deref(), limit.reason.as_deref(), file);
        lines.push(line(limit.name, &now, &origin, style));
    }
    let concurrency = &report.concurrency;
    let file = concurrency.file.map(|slots| slots.to_string());
    let origin = origin(&concurrency.from, concurrency.at.as_deref(), concurrency.reason.as_deref(), file);
    lines.push(line("concurrency", &concurrency.value.to_string(), &origin, style));
    for ignored in &report.ignored {
        let text = format!("ignored: Redis holds something else than a limit as {}", printable(ignored));
        lines.push(style.paint(Tone::Odd, &text).into_owned());
    }
    lines
}

fn line(name: &str, now: &str, origin: &str, style: Style) -> String {
    format!("{}  {now:<24}  {origin}", style.paint(Tone::Strong, &format!("{name:<12}")))
}

fn limit_text(rate: Option<&str>, burst: Option<u32>) -> String {
    match (rate, burst) {
        (Some(rate), Some(burst)) => format!("{rate}, burst {burst}"),
        (Some(rate), None) => rate.to_owned(),
        (None, _) => "no limit".to_owned(),
    }
}

/// `file`, or `by ada at …: XCO asked (file: 200/s, burst 200)`
fn origin(from: &str, at: Option<&str>, reason: Option<&str>, file: Option<String>) -> String {
    let Some(at) = at else { return from.to_owned() };
    let mut text = format!("by {} at {at}", printable(from));
    if let Some(reason) = reason {
        let _ = write!(text, ": {}", printable(reason));
    }
    if let Some(file) = file {
        let _ = write!(text, " (file: {file})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::{
        InForce,
        limits::{ConcurrencyReport, LimitReport},
    };

    #[test]
    fn a_changed_limit_is_shown_beside_the_files() {
        let file = ConfiguredLimit { rate: Some("200/s".to_owned()), burst: Some(200) };
        let limit = LimitReport {
            name: "total",
            rate: Some("100/s".to_owned()),
            burst: Some(100),
            from: "ada".to_owned(),
            at: Some("2026-11-27T16:00:00.000Z".to_owned()),
            reason: Some("XCO asked\u{1b}[2J".to_owned()),
            file: Some(file),
        };
        let concurrency = ConcurrencyReport { value: 64, from: "file".to_owned(), at: None, reason: None, file: None };
        let in_force = InForce { in_force_on: 1, workers: 1 };
        let report =
            LimitsReport { limits: vec![limit], concurrency, ignored: vec!["caller.rate".to_owned()], in_force };
        let lines = lines(&report, Style::plain());
        assert!(lines[0].starts_with("total         100/s, burst 100 "), "{lines:?}");
        assert!(lines[0].ends_with("(file: 200/s, burst 200)") && !lines[0].contains('\u{1b}'), "{lines:?}");
        assert!(lines[1].starts_with("concurrency   64 ") && lines[1].ends_with("file"), "{lines:?}");
        assert!(lines[2].contains("caller.rate"), "{lines:?}");
    }
}
