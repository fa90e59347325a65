//! The flags of `enqueue`.
#![allow(clippy::doc_markdown, reason = "the texts of --help have no markup")]

use crate::{
    cli::values::{JsonArgument, MetaEntry, parse_job_type, parse_moment},
    config::parse_duration,
    contract::{JobType, Lane},
};
use clap::Args;
use std::{path::PathBuf, time::Duration};

/// Flags of `enqueue`. They have no `Debug`, because they contain personal data.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker enqueue --type CheckUser --email john@example.com --caller-id 203.0.113.7 --wait 10s\n  \
    xco-worker enqueue --type CreateUser --customer-reference c1 --user @user.json --lane bulk\n  \
    xco-worker enqueue --file jobs.ndjson --lane bulk\n  \
    xco-worker enqueue --file - < jobs.ndjson\n\n\
    A line of jobs.ndjson:\n  \
    {\"type\":\"CheckUser\",\"caller_id\":\"s1\",\"args\":{\"email\":\"john@example.com\"}}")]
pub struct EnqueueArgs {
    /// Job type: CheckUser, CreateUser, StartOtp, VerifyOtp or FinalizeConsent
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type, required_unless_present = "file")]
    pub job_type: Option<JobType>,
    /// Jobs to enqueue, one JSON object a line, each with an optional `lane`; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = JOB_FLAGS)]
    pub file: Option<PathBuf>,
    /// The lane: `interactive` (a person is waiting) or `bulk`; with --file, the lane of jobs that name none
    #[arg(long, value_name = "LANE", default_value_t = Lane::Interactive)]
    pub lane: Lane,

    /// Your own identifier of the job: a second job with the same one is dropped
    #[arg(long, help_heading = "Job")]
    pub id: Option<String>,
    /// Whose rate limit the job spends: a browser's address or session id
    #[arg(long, help_heading = "Job", value_name = "TEXT")]
    pub caller_id: Option<String>,
    /// The merchant's UUID, instead of `xco.merchant_id`
    #[arg(long, help_heading = "Job", value_name = "UUID")]
    pub merchant_id: Option<String>,
    /// Time limit of the job: after it, the job ends as `expired`
    #[arg(long, help_heading = "Job", value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// Time before which the job does not run: RFC 3339, such as 2027-01-31T08:00:00Z
    #[arg(long, help_heading = "Job", value_name = "TIME", value_parser = parse_moment)]
    pub run_at: Option<String>,
    /// Number of failed attempts after which the job fails, 1 to 100
    #[arg(long, help_heading = "Job", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_attempts: Option<u32>,
    /// Batch of the job
    #[arg(long, help_heading = "Job", value_name = "NAME")]
    pub batch: Option<String>,
    /// Text that the completion returns; may be repeated
    #[arg(long, help_heading = "Job", value_name = "KEY=VALUE")]
    pub meta: Vec<MetaEntry>,
    /// The next job for each outcome, as JSON: {"absent": {"type": "CreateUser", …}}
    #[arg(long, help_heading = "Job", value_name = "JSON|@FILE")]
    pub next: Option<JsonArgument>,
    /// Also push the completion to the job's reply list (needs --id)
    #[arg(long, help_heading = "Job")]
    pub reply: bool,
    /// Wait this long for the completion and print it; exit 1 unless the job succeeded. Without --id, an id is generated
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
    pub user: Option<JsonArgument>,
}

/// Flags that conflict with `--file`, because each line of the file has these values.
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
