//! `xco-worker enqueue`
#![allow(clippy::doc_markdown, reason = "the texts of --help have no markup")]

mod file;
mod flags;

use super::{
    Context, Exit, HintExt, print_json, print_line,
    rows::{printable, row},
    say,
    style::Style,
    values::{JsonText, MetaEntry, parse_job_type, parse_moment},
};
use crate::{
    config::{format_duration, parse_duration},
    contract::{JobType, Lane, Status},
    operations::{
        Backend,
        enqueue::{self, EnqueueRequest, Enqueued, InvalidJob, JobChecker, Waited},
    },
};
use clap::Args;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

/// Flags of `enqueue`. No `Debug`: it is about a person.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker enqueue --type CheckUser --email john@example.com --caller-id 203.0.113.7 --wait 10s\n  \
    xco-worker enqueue --type CreateUser --customer-reference c1 --user @user.json --lane bulk\n  \
    xco-worker enqueue --file jobs.ndjson --lane bulk\n  \
    xco-worker enqueue --file - < jobs.ndjson\n\n\
    A line of such a file:\n  \
    {\"type\":\"CheckUser\",\"caller_id\":\"s1\",\"args\":{\"email\":\"john@example.com\"}}")]
pub struct EnqueueArgs {
    /// CheckUser, CreateUser, StartOtp, VerifyOtp or FinalizeConsent
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type, required_unless_present = "file")]
    pub job_type: Option<JobType>,
    /// Jobs to enqueue, one JSON object a line, each with an optional `lane`; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = JOB_FLAGS)]
    pub file: Option<PathBuf>,
    /// The queue: `interactive` (a person is waiting) or `bulk`; with --file, of jobs that name none
    #[arg(long, value_name = "LANE", default_value_t = Lane::Interactive)]
    pub lane: Lane,

    /// Your own identifier: a second job with it is dropped
    #[arg(long, help_heading = "Job")]
    pub id: Option<String>,
    /// Whose rate limit the job spends: a browser's address or session id
    #[arg(long, help_heading = "Job", value_name = "TEXT")]
    pub caller_id: Option<String>,
    /// The merchant's UUID, instead of `xco.merchant_id`
    #[arg(long, help_heading = "Job", value_name = "UUID")]
    pub merchant_id: Option<String>,
    /// After this long the job is given up as `expired`
    #[arg(long, help_heading = "Job", value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// Not before: RFC 3339, such as 2027-01-31T08:00:00Z
    #[arg(long, help_heading = "Job", value_name = "TIME", value_parser = parse_moment)]
    pub run_at: Option<String>,
    /// Failed attempts before giving up, 1 to 100
    #[arg(long, help_heading = "Job", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_attempts: Option<u32>,
    /// The batch it belongs to
    #[arg(long, help_heading = "Job", value_name = "NAME")]
    pub batch: Option<String>,
    /// Text to have back with the completion; may be repeated
    #[arg(long, help_heading = "Job", value_name = "KEY=VALUE")]
    pub meta: Vec<MetaEntry>,
    /// What to enqueue by outcome, in JSON: {"absent": {"type": "CreateUser", …}}
    #[arg(long, help_heading = "Job", value_name = "JSON|@FILE")]
    pub next: Option<JsonText>,
    /// Push the completion to the job's reply list too (needs --id)
    #[arg(long, help_heading = "Job")]
    pub reply: bool,
    /// Wait this long for the completion and print it; exit 1 unless it succeeded. Without --id, one is made up
    #[arg(long, help_heading = "Job", value_name = "DURATION", value_parser = parse_duration)]
    pub wait: Option<Duration>,

    /// The customer's email address
    #[arg(long, help_heading = "Arguments", conflicts_with = "phone_number")]
    pub email: Option<String>,
    /// The customer's phone number, E.164: +33612345678
    #[arg(long, help_heading = "Arguments", value_name = "NUMBER")]
    pub phone_number: Option<String>,
    /// The code that the customer typed
    #[arg(long, help_heading = "Arguments")]
    pub code: Option<String>,
    /// Your identifier of the customer
    #[arg(long, help_heading = "Arguments", value_name = "TEXT")]
    pub customer_reference: Option<String>,
    /// The challenge that a verified code opened
    #[arg(long, help_heading = "Arguments", value_name = "UUID")]
    pub consent_challenge_id: Option<String>,
    /// The customer, as XCO's `user` object
    #[arg(long, help_heading = "Arguments", value_name = "JSON|@FILE")]
    pub user: Option<JsonText>,
}

/// What a line of `--file` says for itself.
const JOB_FLAGS: [&str; 18] = [
    "job_type",
    "id",
    "caller_id",
    "merchant_id",
    "ttl",
    "run_at",
    "max_attempts",
    "batch",
    "meta",
    "next",
    "reply",
    "wait",
    "email",
    "phone_number",
    "code",
    "customer_reference",
    "consent_challenge_id",
    "user",
];

pub(super) async fn run(args: EnqueueArgs, context: Context) -> anyhow::Result<Exit> {
    if let Some(path) = &args.file {
        return file::run(path, args.lane, &context).await;
    }
    let id = args.id.clone().or_else(|| args.wait.map(|_| format!("cli-{}", uuid::Uuid::new_v4())));
    let json = flags::job(&args, id).to_string();
    let request = EnqueueRequest { json: &json, lane: args.lane, id: None };
    let job = match JobChecker::new(&context.config).check(request) {
        Ok(job) => job,
        Err(invalid) => {
            report(&invalid, "");
            anyhow::bail!("not enqueued: no valid job");
        }
    };
    let mut backend = Backend::connect(&context.config.redis).await?;
    let Some(longest) = args.wait else {
        announce(&enqueue::add(&mut backend, &job).await?, context.json)?;
        return Ok(Exit::Done);
    };
    let Waited { enqueued, completion, after } = enqueue::add_and_wait(&mut backend, &job, longest).await?;
    let Some(event) = completion else {
        let id = enqueued.id;
        let none: Result<Exit, _> =
            Err(anyhow::anyhow!("{id} is enqueued, but has no completion after {}", format_duration(longest)));
        return none.hint(format!(
            "is a worker running? (a second job with the id of another is dropped) look for it later: \
             xco-worker completions --id {id} --from {after} --count 1"
        ));
    };
    print_completion(&event, context.json)?;
    Ok(if event["status"] == Status::Succeeded.as_str() { Exit::Done } else { Exit::Failed })
}

fn print_completion(event: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(event);
    }
    print_line(&row(event, Style::of_stdout()))?;
    for part in ["result", "error"] {
        if event[part].is_object() {
            print_line(&format!("{part}: {:#}", event[part]))?;
        }
    }
    Ok(())
}

/// Prints the id of an enqueued job.
fn announce(job: &Enqueued, json: bool) -> anyhow::Result<()> {
    if json { print_json(&json!(job)) } else { print_line(&job.id) }
}

/// Reports what is wrong with a job, one line for each fault.
fn report(invalid: &InvalidJob, before: &str) {
    for fault in invalid.faults() {
        let at = if fault.pointer.is_empty() { "the job" } else { &fault.pointer };
        say(&format!("{before}{}: {}", printable(at), printable(&fault.detail)));
    }
}
