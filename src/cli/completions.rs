//! `xco-worker completions`

use super::{
    Context, Exit, print_json, print_line,
    rows::{header, row},
    run::stop_on_signal,
    say,
    style::Style,
    values::{StartFrom, parse_job_type, parse_status},
};
use crate::{
    completions::{Filter, Membership, Options, Start, Subscriber},
    config::parse_duration,
    contract::{JobType, Status},
    operations::Error,
};
use clap::Args;
use std::{io::IsTerminal, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Flags of `completions`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker completions\n  \
    xco-worker completions --from beginning --status failed --json\n  \
    xco-worker completions --id signup-42 --from beginning --count 1 --timeout 10s\n  \
    xco-worker completions --group shop --consumer web-1 --json")]
pub struct CompletionsArgs {
    /// Where to begin: `beginning`, `now`, or after the id of an entry; an existing group continues where it stopped
    #[arg(long, value_name = "WHERE", default_value = "now")]
    pub from: StartFrom,
    /// Read as a member of this consumer group; it is created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Name of this reader within the group [default: host name and process id]
    #[arg(long, value_name = "NAME", requires = "group")]
    pub consumer: Option<String>,
    /// Only of this job
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type)]
    pub job_type: Option<JobType>,
    /// Only with this status: succeeded, failed, expired, cancelled, rejected
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    pub status: Option<Status>,
    /// Only of this batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// End after this number of completions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time; exit 1 if --count was not reached
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// Follows until `--count`, `--timeout` or a signal.
pub(super) async fn run(args: CompletionsArgs, context: Context) -> anyhow::Result<Exit> {
    let redis = &context.config.redis;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let options = options(&args);
    let grouped = options.membership.is_some();
    let starting = Subscriber::start(redis, options);
    let mut subscriber = tokio::select! {
        started = starting => started.map_err(|error| Error::queue(redis, error))?,
        () = stop.cancelled() => return Ok(Exit::Done),
    };
    let style = Style::of_stdout();
    if !context.json && std::io::stdout().is_terminal() {
        print_line(&header(style))?;
    }
    let mut left = args.count;
    let exit = loop {
        let batch = tokio::select! {
            batch = subscriber.next() => batch.map_err(|error| Error::queue(redis, error))?,
            () = stop.cancelled() => break Exit::Done,
            () = until(deadline) => break if left.is_some() { Exit::Failed } else { Exit::Done },
        };
        for gap in subscriber.gaps() {
            say(&format!("{gap}: completions.max_bytes or completions.retention is too small for this reader"));
        }
        let wanted = usize::try_from(left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(batch.len());
        let (batch, _) = batch.split_at(wanted);
        for completed in batch {
            if context.json {
                print_json(&completed.event)?;
            } else {
                print_line(&row(&completed.event, style))?;
            }
        }
        if grouped {
            subscriber.acknowledge(batch).await.map_err(|error| Error::queue(redis, error))?;
        }
        left = left.map(|left| left.saturating_sub(wanted as u64));
        if left == Some(0) {
            break Exit::Done;
        }
    };
    // What was read and not printed goes to the group's next reader; without Redis that takes a minute.
    let _ = tokio::time::timeout(redis.response_timeout, subscriber.close()).await;
    if exit == Exit::Failed {
        let (left, count) = (left.unwrap_or(0), args.count.unwrap_or(0));
        anyhow::bail!("{} of {count} completions came in time", count - left);
    }
    Ok(exit)
}

fn options(args: &CompletionsArgs) -> Options {
    let start = match args.from {
        StartFrom::Beginning => Start::Beginning,
        StartFrom::Now => Start::Now,
        StartFrom::After(entry) => Start::After(entry),
    };
    let membership =
        args.group.as_ref().map(|group| Membership::new(group, args.consumer.clone().unwrap_or_else(consumer_name)));
    let filter =
        Filter { id: args.id.clone(), job_type: args.job_type, status: args.status, batch: args.batch.clone() };
    let wanted = args.count.and_then(|count| usize::try_from(count).ok());
    let batch = wanted.map_or(Options::default().batch, |count| count.min(Options::default().batch));
    Options { start, membership, filter, batch }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// `host-pid`
fn consumer_name() -> String {
    let host = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let host = host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
    format!("{}-{}", host.as_deref().unwrap_or("host"), std::process::id())
}
