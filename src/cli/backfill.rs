//! `xco-worker backfill`
#![allow(clippy::doc_markdown, reason = "the texts of --help have no markup")]

mod feeder;
mod files;
mod lost;
mod plan;
mod progress;
mod reading;
mod report;

use super::{Context, Exit, HintExt, UsageError, operator::this_operator, redis_access, run::stop_on_signal, say};
use crate::{
    backfill::{Encoding, Format, MapEntry, Rows, RowsError},
    config::{Rate, parse_rate},
    queue::{Keys, Link, backfill},
};
use clap::{Args, Subcommand};
use feeder::{Ending, Feeder};
use files::Rejects;
use plan::Plan;
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};
use tokio_util::sync::CancellationToken;

/// Flags of `backfill`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_long_help = "Examples:\n  \
    xco-worker backfill customers.csv\n  \
    xco-worker backfill customers.csv --dry-run\n  \
    xco-worker backfill kunden.csv.gz --encoding latin1 --map email=E-Mail --map customer_reference=Kundennr\n  \
    xco-worker backfill a.ndjson b.ndjson --batch spring --rate 100/s\n  \
    xco-worker backfill report spring\n\n\
    Columns: customer_reference, email, phone_number, first_name, last_name, gender, birthdate, and billing_ or delivery_\n\
    before street_address, address_complement, locality, postal_code, country. Others are ignored.\n\
    A line of NDJSON: {\"customer_reference\":\"c1\",\"user\":{\"email\":\"ada@example.com\"}}\n\n\
    Outcomes: created; already_exists; needs_consent (the customer has an account, and linking it takes a code sent to the\n\
    customer); failed, expired, cancelled, rejected, with the error; unknown (its completion was trimmed unread).\n\
    Exit 0 only if every valid row has ended; what it ended with does not matter.")]
pub struct BackfillArgs {
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<BackfillCommand>,
    /// CSV or NDJSON, plain or gzip; `-` is stdin, which is kept in a file to be read again
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Its name, in jobs and completions [default: made of the first file's name and content]
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Check every row and write FILE.rejected.csv; enqueue nothing
    #[arg(long)]
    pub dry_run: bool,
    /// At most so many rows enqueued that have not ended
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub window: u64,
    /// At most so many rows enqueued a second, minute or hour: 100/s [default: as many as there is room for]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<Rate>,
    /// The merchant's UUID, instead of the workers' `xco.merchant_id`
    #[arg(long, value_name = "UUID")]
    pub merchant_id: Option<String>,

    /// csv or ndjson [default: NDJSON where the first character is a brace]
    #[arg(long, help_heading = "Files", value_name = "FORMAT")]
    pub format: Option<Format>,
    /// What stands between CSV cells: one character, or `tab` [default: of , ; tab | what the header has most of]
    #[arg(long, help_heading = "Files", value_name = "CHAR", value_parser = parse_delimiter)]
    pub delimiter: Option<u8>,
    /// How text is encoded: latin1 (read as windows-1252, as on the Web), iso-8859-15, utf-16le, …
    #[arg(long, help_heading = "Files", value_name = "NAME", default_value_t = Encoding::default())]
    pub encoding: Encoding,
    /// What the header calls a column: email=E-Mail; may be repeated
    #[arg(long, help_heading = "Files", value_name = "COLUMN=NAME")]
    pub map: Vec<MapEntry>,
}

/// What else to do.
#[derive(Subcommand)]
pub enum BackfillCommand {
    /// How far a backfill is, and FILE.results.csv as of now; exit 1 while rows have not ended
    Report {
        /// The batch
        #[arg(value_name = "BATCH")]
        batch: String,
    },
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err("one character, such as ; or |, or the word tab".to_owned()),
    }
}

pub(super) async fn run(args: BackfillArgs, context: Context) -> anyhow::Result<Exit> {
    if let Some(BackfillCommand::Report { batch }) = &args.command {
        return report::run(batch, &context).await;
    }
    let plan = Plan::new(&args, &context)?;
    let read = Arc::new(AtomicU64::new(0));
    let rows = open(&plan, &context, Arc::clone(&read))?;
    if args.dry_run {
        let rejects = Rejects::create(&plan.files)?;
        let counts = tokio::task::spawn_blocking(move || reading::judge_all(rows, rejects)).await??;
        report::dry_run(&plan, counts, context.json)?;
        return Ok(Exit::Done);
    }
    let redis = &context.config.redis;
    let mut link = redis_access::connect(redis).await?;
    let keys: Vec<Keys> = (0..redis.partitions.max(1)).map(|number| Keys::new(&redis.namespace, number)).collect();
    begin(&mut link, &keys, &plan, &context).await?;
    let rejects = Rejects::create(&plan.files)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let feeder = Feeder::start(&mut link, keys, &plan, &args, redis).await?;
    let ending = feeder.run(&mut link, rows, rejects, read, stop).await?;
    match ending {
        Ending::Complete => report::conclude(&mut link, &plan.batch, &context).await,
        Ending::Stopped { outstanding } => {
            let goes_on = match outstanding {
                0 => "no row is under way".to_owned(),
                1 => "the row that is under way goes on without this command".to_owned(),
                rows => format!("the {rows} rows that are under way go on without this command"),
            };
            say(&format!("stopped; {goes_on}, and the same command takes up where it stopped"));
            Ok(Exit::Failed)
        }
        Ending::Replaced => {
            let replaced: anyhow::Result<Exit> =
                Err(anyhow::anyhow!("another run of the batch {} has taken over", plan.batch));
            replaced.hint("one at a time; nothing was enqueued twice, and the other one goes on")
        }
    }
}

fn open(plan: &Plan, context: &Context, read: Arc<AtomicU64>) -> anyhow::Result<Rows> {
    let target = plan.target(context.config.redis.partitions);
    match Rows::open(plan.files.clone(), plan.layout.clone(), target, read) {
        Ok(rows) => Ok(rows),
        Err(error @ RowsError::Header { .. }) => {
            let unfit: anyhow::Result<Rows> = Err(UsageError(error.to_string()).into());
            unfit.hint("`--map email=E-Mail` says what a column is called, `--delimiter` what stands between cells")
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes the batch known, or finds it to be the same as before; records who does it.
async fn begin(link: &mut Link, keys: &[Keys], plan: &Plan, context: &Context) -> anyhow::Result<()> {
    let redis = &context.config.redis;
    let failed = |error| redis_access::unreachable(redis, &error);
    let before = backfill::plan(link, &keys[0], &plan.batch).await.map_err(failed)?;
    let what = json!({"batch": plan.batch, "files": plan.names(), "fingerprint": &plan.fingerprint[..16],
        "resumed": before.is_some()});
    this_operator().record(link, &redis.namespace, "backfill", &what, 0).await.map_err(failed)?;
    let wanted = backfill::Plan { fingerprint: plan.fingerprint.clone(), what: plan.to_json() };
    let held = backfill::begin(link, &keys[0], &plan.batch, &wanted).await.map_err(failed)?;
    if held.fingerprint == plan.fingerprint {
        return Ok(());
    }
    let other: anyhow::Result<()> = Err(UsageError(format!(
        "the batch {} was begun with other files or flags: {}",
        plan.batch,
        plan::described(&held.what)
    ))
    .into());
    other.hint("give what it was begun with, unchanged, or another name with `--batch`")
}
