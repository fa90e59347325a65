//! `xco-worker backfill`
#![allow(clippy::doc_markdown, reason = "the texts of --help have no markup")]

mod conversions;
mod progress;
mod render;
mod stream;

use super::{Context, Exit, HintExt, UsageError, operator::this_operator, print_json, run::stop_on_signal, say};
use crate::{
    config::{Rate, parse_rate},
    operations::{
        Backend,
        backfill::{
            self, Backfill, BackfillError, Correction, Encoding, Ending, FeedLimits, Format, Identity, IdentityError,
            Layout, MapEntry, MaxRejected, RowSource,
        },
    },
};
use clap::{Args, Subcommand};
use progress::{Notes, ProgressDisplay};
use std::{path::PathBuf, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Flags of `backfill`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_long_help = "Examples:\n  \
    xco-worker backfill customers.csv\n  \
    xco-worker backfill customers.csv --dry-run\n  \
    xco-worker backfill kunden.csv.gz --encoding latin1 --map email=E-Mail --map customer_reference=Kundennr\n  \
    xco-worker backfill clients.csv --dry-run --date-format DD/MM/YYYY --phone-country FR --map-value gender:M.=male\n  \
    xco-worker backfill a.ndjson b.ndjson --batch spring --rate 100/s\n  \
    xco-worker backfill report spring\n  \
    xco-worker backfill customers.csv.rejected.csv --correct spring\n\n\
    Columns: customer_reference, email, phone_number, first_name, last_name, gender, birthdate, and billing_ or delivery_\n\
    before street_address, address_complement, locality, postal_code, country. Others are named, and not read.\n\
    A line of NDJSON: {\"customer_reference\":\"c1\",\"user\":{\"email\":\"ada@example.com\"}}\n\n\
    Outcomes: created; already_exists; needs_consent (the customer has an account, and linking it takes a code sent to the\n\
    customer); created_before (an earlier batch created that account, so nothing is left to do); failed, expired, cancelled,\n\
    rejected, with the error; unknown (its completion was trimmed unread).\n\
    Exit 0 if every valid row has ended, with success or without.")]
pub struct BackfillArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Option<BackfillCommand>,
    /// CSV or NDJSON, plain or gzip; `-` is stdin, which is kept in a file to be read again, as any other pipe is
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The name of the backfill, in jobs and completions [default: the first file's name and a digest of all files]
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Add corrected rows to a batch: FILE is its FILE.rejected.csv with the rows corrected, read as its files are
    #[arg(long, value_name = "BATCH", conflicts_with_all = ["batch", "merchant_id", "format", "map",
        "date_format", "phone_country", "map_value", "country_names", "drop_invalid_optional"])]
    pub correct: Option<String>,
    /// Check every row and write FILE.rejected.csv; enqueue nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Exit 1, and enqueue nothing, if more rows are rejected: a number, or a share such as 5% [default: any]
    #[arg(long, value_name = "N")]
    pub max_rejected: Option<MaxRejected>,
    /// Maximum number of rows in the queue at once [default: the rows of half a minute, from 1,000 to 10,000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub window: Option<u64>,
    /// Maximum rate of rows, in a second, minute or hour: 100/s [default: as fast as --window allows]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<Rate>,
    /// The merchant's UUID, instead of the workers' `xco.merchant_id`
    #[arg(long, value_name = "UUID")]
    pub merchant_id: Option<String>,

    /// csv or ndjson [default: NDJSON if the first character is a brace]
    #[arg(long, help_heading = "Files", value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The character between CSV cells, or `tab` [default: the most frequent of , ; tab | in the header]
    #[arg(long, help_heading = "Files", value_name = "CHAR", value_parser = parse_delimiter)]
    pub delimiter: Option<u8>,
    /// How text is encoded: latin1 (read as windows-1252, as on the Web), iso-8859-15, utf-16le, … [default: UTF-8]
    #[arg(long, help_heading = "Files", value_name = "NAME")]
    pub encoding: Option<Encoding>,
    /// The header's name of a column: email=E-Mail; may be repeated
    #[arg(long, help_heading = "Files", value_name = "COLUMN=NAME")]
    pub map: Vec<MapEntry>,
    /// Flags that convert values.
    #[command(flatten)]
    pub convert: conversions::ConversionArgs,
}

/// Subcommands of `backfill`.
#[derive(Subcommand)]
pub enum BackfillCommand {
    /// Print the progress of a backfill, and write FILE.results.csv; exit 1 if some rows have not ended
    Report {
        /// Name of the batch
        #[arg(value_name = "BATCH")]
        batch: String,
    },
    /// List the backfills of the last 30 days, the latest first
    List,
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err("one character, such as ; or |, or the word tab".to_owned()),
    }
}

pub(super) async fn run(args: BackfillArgs, context: Context) -> anyhow::Result<Exit> {
    if let Some(command) = &args.command {
        let mut backend = Backend::connect(&context.config.redis).await?;
        return match command {
            BackfillCommand::Report { batch } => report(&mut backend, batch, context.json).await,
            BackfillCommand::List => {
                let backfills = backfill::list(&mut backend).await?;
                if context.json {
                    print_json(&serde_json::to_value(&backfills)?)?;
                } else {
                    render::list(&backfills)?;
                }
                Ok(Exit::Done)
            }
        };
    }
    let files = stream::files(&args.files, args.dry_run)?;
    let backfill = if let Some(batch) = &args.correct {
        let mut backend = Backend::connect(&context.config.redis).await?;
        let correction = Correction { files: files.paths(), encoding: args.encoding, delimiter: args.delimiter };
        Backfill::correct(&mut backend, batch, correction).await.or_else(failed)?
    } else {
        let identity = Identity::new(source(&args, files.paths()), context.config.redis.partitions);
        Backfill::open(identity.or_else(|error| failed(error.into()))?).or_else(failed)?
    };
    let batch = backfill.batch().to_owned();
    if args.dry_run {
        let checked = backfill.check(Arc::new(Notes)).await.or_else(failed)?.size(args.window, &context.config);
        if context.json {
            print_json(&serde_json::to_value(&checked)?)?;
        } else {
            render::check(&checked)?;
        }
        checked.require(args.max_rejected).or_else(failed)?;
        return Ok(Exit::Done);
    }
    let mut backend = Backend::connect(&context.config.redis).await?;
    let limits = FeedLimits {
        window: args.window,
        rate: args.rate,
        max_rejected: args.max_rejected,
        again: args.batch.is_some(),
    };
    let display = Arc::new(ProgressDisplay::default());
    let progress = Arc::clone(&display);
    let feeder = backfill.start(&mut backend, &this_operator(), limits, progress).await.or_else(failed)?;
    render::note_reasons(&feeder.checked().reasons);
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let ending = feeder.run(&mut backend, stop).await.or_else(failed)?;
    display.end();
    match ending {
        Ending::Complete => report(&mut backend, &batch, context.json).await,
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
                Err(anyhow::anyhow!("another run of the batch {batch} has taken over"));
            replaced.hint("one at a time; nothing was enqueued twice, and the other one goes on")
        }
    }
}

async fn report(backend: &mut Backend<'_>, batch: &str, json: bool) -> anyhow::Result<Exit> {
    let report = backfill::report(backend, batch, &Notes).await.or_else(failed)?;
    if let Some(reason) = &report.no_results {
        say(&format!("no result file was written: {reason}"));
    }
    if json {
        print_json(&serde_json::to_value(&report)?)?;
    } else {
        render::report(&report)?;
    }
    Ok(if report.complete && report.no_results.is_none() { Exit::Done } else { Exit::Failed })
}

/// Converts an error for the command line: adds its remedy. A wrong flag is named, and the exit code is then 2.
fn failed<T>(error: BackfillError) -> anyhow::Result<T> {
    let remedy = error.remedy();
    let error = match error {
        BackfillError::Backend(error) => error.into(),
        BackfillError::Identity(error @ IdentityError::MerchantId) => {
            UsageError(format!("--{}", error.to_string().replacen('_', "-", 1))).into()
        }
        BackfillError::Identity(error @ IdentityError::Batch) => UsageError(format!("--{error}")).into(),
        error if error.is_usage() => UsageError(error.to_string()).into(),
        error => anyhow::Error::new(error),
    };
    match remedy {
        Some(remedy) => Err(error).hint(remedy),
        None => Err(error),
    }
}

fn source(args: &BackfillArgs, files: Vec<PathBuf>) -> RowSource {
    let layout = Layout {
        format: args.format,
        delimiter: args.delimiter,
        encoding: args.encoding.unwrap_or_default(),
        map: args.map.clone(),
        convert: args.convert.conversions(),
    };
    RowSource { files, layout, merchant_id: args.merchant_id.clone(), batch: args.batch.clone() }
}
