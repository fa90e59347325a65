//! `dead show` and `dead export`

use super::filter::FilterArgs;
use crate::{
    cli::{
        Context, Exit, HintExt, StdoutClosed,
        operator::this_operator,
        output::{JsonLines, print_pretty_json},
        print_json, say,
    },
    operations::{
        Backend, MerchantScope,
        dead_letters::{self, ExportError, Filter, Reveal, ShowRequest},
    },
};
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

/// Flags of `dead show`.
#[derive(Args)]
pub(super) struct ShowArgs {
    /// Id of the job, or entry of the dead letter (see `dead list --json`)
    #[arg(value_name = "ID")]
    id: String,
    /// Also show personal data; this is recorded in the audit
    #[arg(long)]
    reveal: bool,
}

/// Shows the dead letters of a job, and the edits that operators made.
pub(super) async fn show(args: ShowArgs, context: Context) -> anyhow::Result<Exit> {
    let mut backend = Backend::connect(&context.config.redis).await?;
    let reveal = if args.reveal { Reveal::Recorded } else { Reveal::Masked };
    let merchants = MerchantScope::all();
    let request = ShowRequest { id: &args.id, merchants: &merchants, reveal };
    let report = dead_letters::show(&mut backend, &this_operator(), &request).await?;
    for dead_letter in &report.dead_letters {
        print(dead_letter, context.json)?;
    }
    for edit in &report.edits {
        print(edit, context.json)?;
    }
    Ok(Exit::Done)
}

fn print(value: &impl Serialize, json: bool) -> anyhow::Result<()> {
    if json { print_json(value) } else { print_pretty_json("", value) }
}

/// Flags of `dead export`.
#[derive(Args)]
pub(super) struct ExportArgs {
    /// Write into this new file, which only you can read, instead of stdout
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Writes complete dead letters, personal data included, one JSON object a line.
pub(super) async fn export(args: ExportArgs, context: Context) -> anyhow::Result<Exit> {
    let filter = Filter::from(args.filter);
    let mut backend = Backend::connect(&context.config.redis).await?;
    let out: Box<dyn Write> = match &args.file {
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let file = file.with_context(|| format!("{} cannot be made", path.display()));
            Box::new(file.hint("the file must not exist")?)
        }
        None => Box::new(JsonLines::to_stdout()),
    };
    let count =
        dead_letters::export(&mut backend, &this_operator(), &filter, out).await.map_err(|error| match error {
            ExportError::Operation(error) => error.into(),
            ExportError::Write(error) if error.kind() == ErrorKind::BrokenPipe => StdoutClosed.into(),
            error @ ExportError::Write(_) => anyhow::Error::new(error),
        })?;
    say(&format!("{count} dead letters exported"));
    Ok(Exit::Done)
}
