//! `xco-worker completions`

use super::{
    Context, Exit,
    values::{StartFrom, parse_job_type, parse_status},
};
use crate::{
    config::parse_duration,
    contract::{JobType, Status},
};
use clap::Args;
use std::time::Duration;

/// Flags of `completions`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker completions\n  \
    xco-worker completions --from beginning --status failed --json\n  \
    xco-worker completions --id signup-42 --from beginning --count 1 --timeout 10s\n  \
    xco-worker completions --group shop --consumer web-1 --json")]
pub struct CompletionsArgs {
    /// Where to begin: `beginning`, `now`, or after the id of an entry; a group that is there already goes on where it was
    #[arg(long, value_name = "WHERE", default_value = "now")]
    pub from: StartFrom,
    /// Read as a member of this consumer group, made where it is missing
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// This reader's name within the group [default: made of host and process]
    #[arg(long, value_name = "NAME", requires = "group")]
    pub consumer: Option<String>,
    /// Only of that job
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Only of that type
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type)]
    pub job_type: Option<JobType>,
    /// Only with that status: succeeded, failed, expired, cancelled, rejected
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    pub status: Option<Status>,
    /// Only of that batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so long; exit 1 if --count was not reached
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

#[allow(clippy::unused_async, reason = "replaced by the command")]
pub(super) async fn run(_args: CompletionsArgs, _context: Context) -> anyhow::Result<Exit> {
    anyhow::bail!("`completions` is not built yet")
}
