//! `dead show` and `dead export`

use super::{
    filter::FilterArgs,
    scan::{Enough, Letters},
};
use crate::{
    cli::{Context, Exit, HintExt, print_json, print_line, say},
    contract::{EntryId, format_ms, look_into},
    dead_letters::{Facts, Filter, masked_error, masked_job},
    queue::dead::{self, Letter, Order},
};
use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json, value::RawValue};
use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

/// The most letters of one id that are shown, and the most edits that are looked through for it.
const MOST: usize = 100;
const MOST_EDITS: usize = 10_000;

/// Flags of `dead show`.
#[derive(Args)]
pub(super) struct ShowArgs {
    /// The job's id, or the letter's entry, as `dead list --json` names it
    #[arg(value_name = "ID")]
    id: String,
    /// Show personal data too; this is recorded
    #[arg(long)]
    reveal: bool,
}

/// Shows the letters of a job, and what operators edited in it.
pub(super) async fn show(args: ShowArgs, context: Context) -> anyhow::Result<Exit> {
    let json = context.json;
    let mut letters = Letters::open(context).await?;
    let entry = args.id.parse::<EntryId>().ok();
    let filter = match entry {
        Some(_) => Filter::default(),
        None => Filter { id: vec![args.id.clone()], ..Filter::default() },
    };
    let places = match entry {
        Some(entry) => letters.places_of(entry),
        None => letters.places(&filter).await?,
    };
    let mut found: Vec<Letter> = Vec::new();
    let mut scan = letters.scan(&places, Order::NewestFirst);
    scan.for_each(&letters, &filter, |facts| {
        found.push(facts.letter.clone());
        Ok(if found.len() == MOST { Enough::Yes } else { Enough::No })
    })
    .await?;
    let mut edits = Vec::new();
    for keys in letters.keys.clone() {
        let all = dead::edits(&mut letters.link, &keys, MOST_EDITS).await.map_err(|error| letters.error(&error))?;
        edits.extend(all.into_iter().filter(|edit| edit.letter == args.id || has_id(&edit.job, &args.id)));
    }
    if found.is_empty() && edits.is_empty() {
        return Err(anyhow::anyhow!("no dead letter has this id")).hint("`xco-worker dead list` shows what there is");
    }
    if args.reveal {
        let what = json!({"id": args.id});
        letters.record("dead show", &what, (found.len() + edits.len()) as u64).await?;
    }
    let job = |text: &str| if args.reveal { as_json(text) } else { masked_job(text) };
    for letter in &found {
        let error = if args.reveal { as_json(&letter.error) } else { masked_error(&letter.error) };
        let facts = Facts::new(letter);
        let mut shown = json!({
            "id": letter.id, "entry": letter.entry.to_string(), "partition": letter.partition, "type": letter.job_type,
            "at": letter.at, "replayable": letter.replayable, "replay": facts.replays(), "error": error,
            "job": job(&letter.job),
        });
        if let Some(parent) = facts.state().and_then(|state| state.parent_id) {
            shown["parent_id"] = parent.into();
        }
        print(&shown, json)?;
    }
    for edit in edits {
        let edited = json!({
            "edited_at": format_ms(edit.entry.ms), "by": edit.who, "letter": edit.letter,
            "original": job(&edit.original), "job": job(&edit.job),
        });
        print(&edited, json)?;
    }
    Ok(Exit::Done)
}

fn has_id(job: &str, id: &str) -> bool {
    serde_json::from_str::<Value>(job).is_ok_and(|job| job["id"] == id)
}

fn as_json(text: &str) -> Value {
    look_into(text).unwrap_or_else(|| text.into())
}

fn print(value: &Value, json: bool) -> anyhow::Result<()> {
    // Pretty JSON escapes what a terminal would obey.
    if json { print_json(value) } else { print_line(&serde_json::to_string_pretty(value)?) }
}

/// Flags of `dead export`.
#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Into this new file, which only you can read, instead of stdout
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// Writes letters as they are, personal data included, one JSON object a line.
pub(super) async fn export(args: ExportArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    let mut letters = Letters::open(context).await?;
    let places = letters.places(&filter).await?;
    let mut out: Box<dyn Write> = match &args.file {
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let file = file.with_context(|| format!("{} cannot be made", path.display()));
            Box::new(file.hint("it must not be there yet")?)
        }
        None => Box::new(std::io::stdout()),
    };
    let what = filter.recorded(letters.now_ms);
    letters.record("dead export", &what, 0).await?;
    let mut out = BufWriter::with_capacity(1 << 16, &mut out);
    let mut count = 0_u64;
    let mut scan = letters.scan(&places, Order::OldestFirst);
    let written = scan.for_each(&letters, &filter, |facts| {
        serde_json::to_writer(&mut out, &exported(facts.letter)?).map_err(std::io::Error::from).map_err(gone)?;
        out.write_all(b"\n").map_err(gone)?;
        count += 1;
        Ok(Enough::No)
    });
    let written = match written.await {
        Ok(()) => out.flush().map_err(gone),
        Err(error) => Err(error),
    };
    letters.record("dead export ended", &what, count).await?;
    written?;
    say(&format!("{count} letters exported"));
    Ok(Exit::Done)
}

fn gone(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => crate::cli::StdoutClosed.into(),
        _ => anyhow::Error::new(error).context("the letters cannot be written"),
    }
}

#[derive(serde::Serialize)]
struct Exported<'a> {
    id: &'a str,
    entry: String,
    partition: u16,
    #[serde(rename = "type")]
    job_type: &'a str,
    job: Box<RawValue>,
    error: Box<RawValue>,
    at: &'a str,
    replayable: bool,
    state: Box<RawValue>,
}

fn exported(letter: &Letter) -> anyhow::Result<Exported<'_>> {
    let raw = |text: &str| match RawValue::from_string(text.to_owned()) {
        // One line a letter, whoever wrote it.
        Ok(raw) if !text.contains('\n') => Ok(raw),
        _ => serde_json::value::to_raw_value(&as_json(text)),
    };
    Ok(Exported {
        id: &letter.id,
        entry: letter.entry.to_string(),
        partition: letter.partition,
        job_type: &letter.job_type,
        job: raw(&letter.job)?,
        error: raw(&letter.error)?,
        at: &letter.at,
        replayable: letter.replayable,
        state: raw(&letter.state)?,
    })
}
