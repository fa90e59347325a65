//! `dead list`

use super::filter::FilterArgs;
use crate::{
    cli::{
        Context, Exit, print_json, print_line,
        rows::printable,
        say,
        style::{Style, Tone},
    },
    operations::{
        Backend,
        dead_letters::{self, DeadLetterSummary, Filter, GroupBy, Groups, ListRequest, Rest},
    },
};
use clap::Args;
use std::io::IsTerminal;

/// Flags of `dead list`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker dead list --error upstream,timeout --since 2h\n  \
    xco-worker dead list --by error.kind\n  \
    xco-worker dead list --by type,error.http_status --batch spring --json")]
pub(super) struct ListArgs {
    /// Count the dead letters by these fields, instead of listing them: `type`, `error.kind`, `error.http_status`, `problem`,
    /// `batch`, `caller`, `customer_reference`, `replayable`, `replay`, `hour`, `day`
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    by: Vec<GroupBy>,
    /// Maximum number of dead letters, or groups, to print
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists the newest dead letters, or counts all of them in groups.
pub(super) async fn run(args: ListArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut backend = Backend::connect(&context.config.redis).await?;
    if !args.by.is_empty() {
        let groups = dead_letters::group(&mut backend, &filter, args.by.clone(), limit).await?;
        return if context.json { print_groups_json(&groups) } else { print_groups(&groups, &args.by) };
    }
    let list = dead_letters::list(&mut backend, &ListRequest { filter, limit, after: None }).await?;
    if context.json {
        for dead_letter in &list.dead_letters {
            print_json(dead_letter)?;
        }
        return Ok(Exit::Done);
    }
    if std::io::stdout().is_terminal() {
        let line = line(["TIME (UTC)", "ID", "TYPE", "ERROR", "HTTP", "REPLAYS", ""]);
        print_line(&Style::of_stdout().paint(Tone::Strong, &line))?;
    }
    for dead_letter in &list.dead_letters {
        print_line(&row(dead_letter))?;
    }
    match list.rest {
        Rest::Nothing => {}
        Rest::Exactly(count) => say(&format!("… and {count} more")),
        Rest::Some => say("… and more; `--by type` counts them"),
    }
    Ok(Exit::Done)
}

fn row(dead_letter: &DeadLetterSummary) -> String {
    let error = &dead_letter.error;
    let at = describe(Some(&dead_letter.at)).replace('T', " ");
    let positive = |number: u32| if number > 0 { number.to_string() } else { String::new() };
    line([
        at.get(..19).unwrap_or("-"),
        &describe(Some(&dead_letter.id)),
        &describe(Some(&dead_letter.job_type)),
        &describe(error.kind.as_deref()),
        &positive(error.http_status.map_or(0, u32::from)),
        &positive(dead_letter.replay),
        if dead_letter.replayable { "" } else { "not replayable as it is" },
    ])
}

fn line([at, id, job_type, error, status, replays, note]: [&str; 7]) -> String {
    let line = format!("{at:<19}  {id:<30}  {job_type:<15}  {error:<19}  {status:>4}  {replays:>7}  {note}");
    line.trim_end().to_owned()
}

fn describe(value: Option<&str>) -> String {
    printable(value.filter(|text| !text.is_empty()).unwrap_or("-"))
}

fn print_groups_json(groups: &Groups) -> anyhow::Result<Exit> {
    for group in &groups.groups {
        print_json(group)?;
    }
    if let Some(others) = groups.others {
        print_json(&others)?;
    }
    Ok(Exit::Done)
}

fn print_groups(groups: &Groups, by: &[GroupBy]) -> anyhow::Result<Exit> {
    let names: Vec<_> = by.iter().map(|by| by.name().to_uppercase()).collect();
    let header = format!("{:>9}  {}", "COUNT", names.join("  "));
    print_line(&Style::of_stdout().paint(Tone::Strong, &header))?;
    for group in &groups.groups {
        let values = group.values.iter().zip(&names);
        let values: Vec<_> =
            values.map(|((_, value), name)| format!("{:<1$}", describe(value.as_deref()), name.len())).collect();
        print_line(format!("{:>9}  {}", group.count, values.join("  ")).trim_end())?;
    }
    if let Some(others) = groups.others {
        let groups = others.groups.map_or_else(|| "more groups".to_owned(), |count| format!("{count} more groups"));
        say(&format!("{:>9}  in {groups}", others.count));
    }
    say(&format!("{:>9}  in all", groups.total));
    Ok(Exit::Done)
}
