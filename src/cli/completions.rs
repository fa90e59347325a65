//! `xco-worker completions`

use super::{
    Context, Exit,
    hangup::reader_gone,
    print_json, print_line,
    rows::Rows,
    run::stop_on_signal,
    say,
    values::{StartFrom, parse_job_type, parse_status},
};
use crate::{
    completions::{Completed, Filter, Membership, Options, Start, Subscriber},
    config::parse_duration,
    contract::{JobType, Status},
    operations::{Backend, Error, KeptCompletions},
};
use clap::Args;
use std::{io::IsTerminal, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Flags of `completions`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker completions\n  \
    xco-worker completions --no-follow --status failed --json\n  \
    xco-worker completions --id signup-42 --from beginning --count 1 --timeout 10s\n  \
    xco-worker completions --group shop --consumer web-1 --json")]
pub struct CompletionsArgs {
    /// Where to begin: `beginning`, `now`, or after the id of an entry; an existing group continues where it stopped
    /// [default: now; with --no-follow: beginning]
    #[arg(long, value_name = "WHERE")]
    pub from: Option<StartFrom>,
    /// Print the completions that are kept, and end instead of waiting for more
    #[arg(long, conflicts_with_all = ["group", "timeout"])]
    pub no_follow: bool,
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
    if args.no_follow {
        return kept(&args, &context).await;
    }
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
    let rows = Rows::dated();
    print_header(rows, context.json)?;
    let gone = reader_gone();
    let mut left = args.count;
    let exit = loop {
        let batch = tokio::select! {
            batch = subscriber.next() => batch.map_err(|error| Error::queue(redis, error))?,
            () = stop.cancelled() => break Exit::Done,
            () = gone.cancelled() => break Exit::Done,
            () = until(deadline) => break if left.is_some() { Exit::Failed } else { Exit::Done },
        };
        for gap in subscriber.gaps() {
            say(&format!("{gap}: completions.max_bytes or completions.retention is too small for this reader"));
        }
        let wanted = usize::try_from(left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(batch.len());
        let (batch, _) = batch.split_at(wanted);
        for completed in batch {
            print(completed, rows, context.json)?;
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

/// Prints the completions that are kept. Exit 1 if there are fewer than `--count`.
async fn kept(args: &CompletionsArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut backend = Backend::connect(&context.config.redis).await?;
    let after = match args.from {
        None | Some(StartFrom::Beginning) => None,
        Some(StartFrom::After(entry)) => Some(entry),
        Some(StartFrom::Now) => return Ok(if args.count.is_some() { Exit::Failed } else { Exit::Done }),
    };
    let rows = Rows::dated();
    print_header(rows, context.json)?;
    let mut completions = KeptCompletions::start(&mut backend, after, filter(args)).await?;
    let mut count = 0;
    while args.count.is_none_or(|most| count < most) {
        let Some(completed) = completions.next(&mut backend).await? else { break };
        print(&completed, rows, context.json)?;
        count += 1;
    }
    match args.count {
        Some(wanted) if count < wanted => anyhow::bail!("{count} of {wanted} completions are kept"),
        _ => Ok(Exit::Done),
    }
}

fn print_header(rows: Rows, json: bool) -> anyhow::Result<()> {
    match rows.header() {
        Some(header) if !json && std::io::stdout().is_terminal() => print_line(&header),
        _ => Ok(()),
    }
}

fn print(completed: &Completed, rows: Rows, json: bool) -> anyhow::Result<()> {
    if json { print_json(&completed.event) } else { print_line(&rows.row(&completed.event)) }
}

fn filter(args: &CompletionsArgs) -> Filter {
    let job_types = args.job_type.into_iter().collect();
    Filter { id: args.id.clone(), job_types, status: args.status, batch: args.batch.clone(), ..Filter::default() }
}

fn options(args: &CompletionsArgs) -> Options {
    let start = match args.from {
        Some(StartFrom::Beginning) => Start::Beginning,
        None | Some(StartFrom::Now) => Start::Now,
        Some(StartFrom::After(entry)) => Start::After(entry),
    };
    let membership =
        args.group.as_ref().map(|group| Membership::new(group, args.consumer.clone().unwrap_or_else(consumer_name)));
    let wanted = args.count.and_then(|count| usize::try_from(count).ok());
    let batch = wanted.map_or(Options::default().batch, |count| count.min(Options::default().batch));
    Options { start, membership, filter: filter(args), batch }
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
