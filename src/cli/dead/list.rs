//! `dead list`

use super::{
    filter::FilterArgs,
    groups::{self, Key},
    scan::{Enough, Letters},
};
use crate::{
    cli::{
        Context, Exit, print_json, print_line,
        rows::printable,
        say,
        style::{Style, Tone},
    },
    contract::EntryId,
    dead_letters::{Facts, Filter},
    queue::dead::Order,
};
use clap::Args;
use serde_json::{Value, json};
use std::io::IsTerminal;

/// Flags of `dead list`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker dead list --error upstream,timeout --since 2h\n  \
    xco-worker dead list --by error.kind\n  \
    xco-worker dead list --by type,error.http_status --batch spring --json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Count the letters by these, instead of listing them: `type`, `error.kind`, `error.http_status`, `problem`, `batch`,
    /// `caller`, `customer_reference`, `replayable`, `replay`, `hour`, `day`
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    by: Vec<Key>,
    /// The most letters, or groups, to print
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// One line; nothing in it is about a person.
struct Row {
    entry: EntryId,
    json: Value,
}

/// Lists the newest letters, or counts all.
pub(super) async fn run(args: ListArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    let json = context.json;
    let mut letters = Letters::open(context).await?;
    let places = letters.places(&filter).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    if !args.by.is_empty() {
        return groups::run(&letters, &places, &filter, args.by, limit).await;
    }
    // Partitions are read one after the other, and of each no more than could be shown.
    let mut rows: Vec<Row> = Vec::new();
    let mut cut = false;
    for place in places.each() {
        let before = rows.len();
        let mut scan = letters.scan(&place, Order::NewestFirst);
        scan.for_each(&letters, &filter, |facts| {
            if rows.len() - before == limit {
                cut = true;
                return Ok(Enough::Yes);
            }
            rows.push(row(facts));
            Ok(Enough::No)
        })
        .await?;
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.entry));
    cut |= rows.len() > limit;
    rows.truncate(limit);

    let style = Style::of_stdout();
    if !json && std::io::stdout().is_terminal() {
        let line = line(["TIME (UTC)", "ID", "TYPE", "ERROR", "HTTP", "REPLAYS", ""]);
        print_line(&style.paint(Tone::Strong, &line))?;
    }
    for Row { json: row, .. } in &rows {
        if json { print_json(row)? } else { print_line(&for_people(row))? }
    }
    if cut && !json {
        let more = if filter.is_empty() {
            let more = letters.count().await?.saturating_sub(rows.len() as u64);
            format!("… and {more} more")
        } else {
            "… and more; `--by type` counts them".to_owned()
        };
        say(&more);
    }
    Ok(Exit::Done)
}

fn row(facts: &Facts<'_>) -> Row {
    let letter = facts.letter;
    let mut row = json!({
        "id": letter.id, "entry": letter.entry.to_string(), "partition": letter.partition, "type": letter.job_type,
        "at": letter.at, "replayable": letter.replayable, "replay": facts.replays(),
        "error": {"kind": facts.kind(), "message": facts.message()},
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            row["error"][name] = value;
        }
    };
    set("http_status", facts.http_status().map(Value::from));
    set("problem", facts.problem().map(Value::from));
    if let Some(batch) = facts.batch() {
        row["batch"] = batch.into();
    }
    Row { entry: letter.entry, json: row }
}

fn for_people(row: &Value) -> String {
    let text = |value: &Value| printable(value.as_str().filter(|text| !text.is_empty()).unwrap_or("-"));
    let at = text(&row["at"]).replace('T', " ");
    let number =
        |value: &Value| value.as_u64().filter(|number| *number > 0).map_or_else(String::new, |n| n.to_string());
    let replayable = if row["replayable"] == true { "" } else { "not replayable as it is" };
    line([
        at.get(..19).unwrap_or("-"),
        &text(&row["id"]),
        &text(&row["type"]),
        &text(&row["error"]["kind"]),
        &number(&row["error"]["http_status"]),
        &number(&row["replay"]),
        replayable,
    ])
}

fn line([at, id, job_type, error, status, replays, note]: [&str; 7]) -> String {
    let line = format!("{at:<19}  {id:<30}  {job_type:<15}  {error:<19}  {status:>4}  {replays:>7}  {note}");
    line.trim_end().to_owned()
}
