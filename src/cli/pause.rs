//! `xco-worker pause` and `xco-worker resume`

use super::{
    Context, Exit, UsageError, operator::this_operator, output::say, print_json, print_line, values::parse_job_type,
};
use crate::{
    config::parse_duration,
    contract::{JobType, Lane},
    operations::{
        Backend, Error, Selector,
        pauses::{self, PauseRequest},
    },
};
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// Flags that select the jobs of a pause.
#[derive(Args)]
pub struct PauseSelection {
    /// All jobs
    #[arg(long, conflicts_with_all = ["lane", "job_type", "caller"])]
    pub all: bool,
    /// Jobs of this lane: interactive or bulk
    #[arg(long, value_name = "LANE")]
    pub lane: Option<Lane>,
    /// Jobs of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type)]
    pub job_type: Option<JobType>,
    /// Jobs of this caller (`caller_id`, or else the customer reference)
    #[arg(long, value_name = "ID")]
    pub caller: Option<String>,
}

/// Flags of `pause`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker pause --lane bulk\n  \
    xco-worker pause --type StartOtp --for 10m\n  \
    xco-worker pause --caller 203.0.113.9\n  \
    xco-worker pause --all")]
pub struct PauseArgs {
    /// Which jobs
    #[command(flatten)]
    pub selection: PauseSelection,
    /// End the pause automatically after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub lasting: Option<Duration>,
    /// Why, for `status` and the audit. Do not name a customer
    #[arg(long, value_name = "TEXT", value_parser = pauses::check_reason)]
    pub reason: Option<String>,
}

/// Flags of `resume`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  xco-worker resume --lane bulk\n  xco-worker resume --all")]
pub struct ResumeArgs {
    /// The same selection as that of the pause. `--all` ends every pause.
    #[command(flatten)]
    pub selection: PauseSelection,
}

impl PauseSelection {
    fn selector(&self) -> Result<Selector, UsageError> {
        let Self { all, lane, job_type, caller } = self;
        let selector = Selector { lane: *lane, job_type: *job_type, caller: caller.clone(), ..Selector::default() };
        if selector.is_everything() && !all {
            return Err(UsageError("say which jobs: --lane, --type, --caller, or --all".to_owned()));
        }
        Ok(selector)
    }
}

/// Puts a pause in force.
pub(super) async fn pause(args: PauseArgs, context: Context) -> anyhow::Result<Exit> {
    let request = PauseRequest { jobs: args.selection.selector()?, lasting: args.lasting, reason: args.reason };
    let mut backend = Backend::connect(&context.config.redis).await?;
    let paused = pauses::pause(&mut backend, &this_operator(), request).await?;
    if context.json {
        print_json(&json!(paused))?;
    } else {
        let until = paused.until.map_or_else(|| "until `resume`".to_owned(), |until| format!("until {until}"));
        print_line(&format!("paused: {}, {until}", paused.paused.describe()))?;
    }
    let in_force = pauses::in_force(&mut backend, pauses::IN_FORCE_WITHIN).await?;
    if !context.json {
        say(&in_force.to_string());
    }
    Ok(Exit::Done)
}

/// Ends a pause.
pub(super) async fn resume(args: ResumeArgs, context: Context) -> anyhow::Result<Exit> {
    let jobs = args.selection.selector()?;
    let mut backend = Backend::connect(&context.config.redis).await?;
    let ended = pauses::resume(&mut backend, &this_operator(), &jobs).await?;
    for resumption in &ended.resumed {
        if context.json {
            print_json(&json!(resumption))?;
        } else {
            print_line(&format!("resumed: {}", resumption.resumed.describe()))?;
        }
    }
    if ended.others > 0 {
        say(&format!("{} other pauses are in force; `xco-worker status` lists them", ended.others));
    }
    if ended.resumed.is_empty() {
        return Err(Error::NotPaused(jobs.describe()).into());
    }
    Ok(Exit::Done)
}
