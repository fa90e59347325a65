//! `xco-worker jobs`

use super::{
    Context, Exit, UsageError, print_json, print_line,
    rows::printable,
    say,
    search_progress::SearchProgress,
    style::{Style, Tone},
    values::{parse_job_type, parse_name, parse_status},
};
use crate::{
    contract::{ErrorKind, JobType, Lane, Status},
    operations::{
        Backend, MerchantScope,
        dead_letters::Moment,
        jobs::{self, DelayReason, JobFilter, JobListRequest, JobSummary, ListCursor, MOST_LISTED, Stage},
    },
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::{fmt::Write, io::IsTerminal};

/// Flags of `jobs`.
#[derive(Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

/// The subcommands of `jobs`.
#[derive(Subcommand)]
enum JobsCommand {
    /// List jobs that wait, run, are delayed or have ended
    ///
    /// First those in the lanes, in their order, then the delayed ones by due time, then the ended ones, the newest first.
    /// Shows no personal data. Flags can be seen by other users of this machine.
    List(ListArgs),
}

/// Flags of `jobs list`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker jobs list --customer c-1042\n  \
    xco-worker jobs list --state delayed --type CreateUser --batch spring\n  \
    xco-worker jobs list --status failed --limit 1000 --json")]
struct ListArgs {
    /// Only these: `waiting`, `running` (or `in_flight`), `delayed`, `ended`
    #[arg(long, value_name = "STATE", value_parser = parse_stage, value_delimiter = ',')]
    state: Vec<Stage>,
    /// Only ended jobs with these: `succeeded`, `failed`, `expired`, `cancelled`, `rejected`
    #[arg(long, value_name = "STATUS", value_parser = parse_status, value_delimiter = ',')]
    status: Vec<Status>,
    /// Only of these types
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type, value_delimiter = ',')]
    job_type: Vec<JobType>,
    /// Only in this lane: interactive or bulk. Ended jobs are in none
    #[arg(long, value_name = "LANE", conflicts_with = "status")]
    lane: Option<Lane>,
    /// Only of that batch
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Only of that caller (`caller_id`, else the customer reference)
    #[arg(long, value_name = "ID")]
    caller: Option<String>,
    /// Only about the customer with that reference
    #[arg(long, value_name = "REFERENCE")]
    customer: Option<String>,
    /// Only about the customer with that email address. Of ended jobs: those with a dead letter, or for which XCO returned the user
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// Only about the customer with that phone number, such as +33612345678; of ended jobs as with --email
    #[arg(long, value_name = "NUMBER")]
    phone_number: Option<String>,
    /// Only the job with that id, the latest if there are several. `why` says more
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only those that are in their lane, delayed or ended since then: RFC 3339, or an age such as `2h`
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Maximum number of jobs to print
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Maximum number of jobs to read for it [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    look_at: Option<u64>,
    /// Go on where an earlier list ended: the `cursor` that it printed. The other flags must be the same
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<ListCursor>,
}

/// `delayed`
fn parse_stage(text: &str) -> Result<Stage, String> {
    Stage::from_name(text).map_or_else(|| parse_name(text, Stage::ALL, Stage::as_str), Ok)
}

/// Runs a subcommand.
pub(super) async fn run(args: JobsArgs, context: Context) -> anyhow::Result<Exit> {
    let JobsCommand::List(args) = args.command;
    list(args, context).await
}

/// Prints the jobs page by page, so that memory stays bounded.
async fn list(args: ListArgs, context: Context) -> anyhow::Result<Exit> {
    let ListArgs { state, status, job_type, lane, batch, caller, customer, email, phone_number, id, since, .. } = args;
    if lane.is_some() && state == [Stage::Ended] {
        return Err(UsageError("--lane fits no ended job: a completion does not name its lane".to_owned()).into());
    }
    if !status.is_empty() && !state.is_empty() && !state.contains(&Stage::Ended) {
        return Err(UsageError("--status fits only ended jobs".to_owned()).into());
    }
    let filter = JobFilter {
        stage: state,
        status,
        job_type,
        lane,
        batch,
        caller,
        customer,
        email,
        phone_number,
        people: Vec::new(),
        id,
        since,
        merchants: MerchantScope::all(),
    };
    let mut left = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let look_at_most = args.look_at.unwrap_or(u64::MAX);
    let mut request = JobListRequest { filter, limit: 0, look_at_most, cursor: args.cursor };
    let mut backend = Backend::connect(&context.config.redis).await?;
    let progress = SearchProgress::on_stderr();
    if !context.json && std::io::stdout().is_terminal() {
        let line = line(["SINCE (UTC)", "STATE", "TYPE", "LANE", "ID", ""]);
        print_line(&Style::of_stdout().paint(Tone::Strong, &line))?;
    }
    let (mut looked_at, mut found) = (0, 0);
    let last = loop {
        request.limit = left.min(MOST_LISTED);
        request.look_at_most = look_at_most - looked_at;
        let page = jobs::list(&mut backend, &request, &progress).await?;
        for job in &page.jobs {
            if context.json {
                print_json(job)?;
            } else {
                print_line(&row(job))?;
            }
        }
        looked_at += page.looked_at;
        found += page.jobs.len();
        left -= page.jobs.len();
        if page.complete || left == 0 || looked_at >= look_at_most {
            break page;
        }
        request.cursor = page.cursor;
    };
    if context.json {
        let mut end = json!({"looked_at": looked_at, "complete": last.complete});
        if let Some(cursor) = last.cursor {
            end["cursor"] = json!(cursor);
        }
        print_json(&end)?;
        return Ok(Exit::Done);
    }
    say(&format!("{found} jobs found, {looked_at} looked at"));
    if let Some(cursor) = last.cursor {
        say(&format!("there may be more: the same with --cursor {cursor}"));
    }
    Ok(Exit::Done)
}

fn row(job: &JobSummary) -> String {
    let since = printable(&job.since).replace('T', " ");
    line([
        since.get(..19).unwrap_or("-"),
        job.stage.as_str(),
        job.job_type.map_or("-", JobType::as_str),
        job.lane.map_or("-", Lane::as_str),
        &printable(&job.id),
        &note(job),
    ])
}

/// `created, 2 calls` or `waits for retry until 03:14:02`
fn note(job: &JobSummary) -> String {
    let mut note = match (job.status, job.waits_for) {
        (Some(status), _) => {
            let how = job.outcome.as_deref().or(job.error.map(ErrorKind::as_str));
            how.map_or_else(|| status.as_str().to_owned(), |how| format!("{} ({})", status.as_str(), printable(how)))
        }
        (None, Some(DelayReason::Cancelled)) => "cancelled: it ends now".to_owned(),
        (None, Some(reason)) => {
            let until = job.until.as_deref().and_then(|until| until.get(..19)).map(|until| until.replace('T', " "));
            until.map_or_else(|| format!("waits for {reason}"), |until| format!("waits for {reason} until {until}"))
        }
        (None, None) => String::new(),
    };
    if let Some(attempts) = job.attempts.filter(|attempts| *attempts > 1) {
        let separator = if note.is_empty() { "" } else { ", " };
        let _ = write!(note, "{separator}{attempts} calls");
    }
    note
}

fn line([since, state, job_type, lane, id, note]: [&str; 6]) -> String {
    let text = format!("{since:<19}  {state:<9}  {job_type:<15}  {lane:<11}  {id:<30}  {note}");
    text.trim_end().to_owned()
}
