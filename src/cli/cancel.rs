//! `xco-worker cancel`

use super::{
    Context, Exit, UsageError, confirm::confirm, operator::this_operator, output::say, print_json, print_line,
    search_progress::SearchProgress, values::parse_job_type,
};
use crate::{
    contract::{JobType, Lane},
    operations::{
        Backend, Error, MerchantScope, Selector, backfill,
        jobs::{self, CancelDetail, CancelEstimate, JobCancelled, JobToCancel},
    },
};
use clap::Args;
use serde_json::json;
use std::io::{self, IsTerminal};

/// A cancellation concerns the jobs of its moment, so that a batch of the same name can be fed again.
const STILL_FED: &str =
    "rows that it enqueues after the cancellation are not cancelled. If its command runs, stop that first";

/// Flags of `cancel`.
#[derive(Args)]
#[command(after_long_help = "Examples:\n  \
    xco-worker cancel signup-42\n  \
    xco-worker cancel --batch spring-import --dry-run\n  \
    xco-worker cancel --lane bulk --type CreateUser --yes\n  \
    xco-worker cancel --caller 203.0.113.9")]
pub struct CancelArgs {
    /// Ids of the jobs
    #[arg(value_name = "ID", conflicts_with_all = ["batch", "lane", "job_type", "caller", "customer"])]
    pub ids: Vec<String>,
    /// Jobs of this batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Jobs of this lane: interactive or bulk
    #[arg(long, value_name = "LANE")]
    pub lane: Option<Lane>,
    /// Jobs of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_job_type)]
    pub job_type: Option<JobType>,
    /// Jobs of this caller (`caller_id`, or else the customer reference)
    #[arg(long, value_name = "ID")]
    pub caller: Option<String>,
    /// Jobs of the customer with this reference
    #[arg(long, value_name = "REFERENCE")]
    pub customer: Option<String>,
    /// Only report how many jobs fit
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do not ask for confirmation. Without a terminal, the command never asks
    #[arg(long, short)]
    pub yes: bool,
}

/// Cancels jobs that are already enqueued.
pub(super) async fn run(args: CancelArgs, context: Context) -> anyhow::Result<Exit> {
    let CancelArgs { ids, batch, lane, job_type, caller, customer, dry_run, yes } = args;
    let selector = Selector { lane, job_type, caller, customer, batch, id: None };
    if ids.is_empty() && selector.is_everything() {
        let wanted = "say which jobs: their ids, --batch, --lane, --type, --caller or --customer";
        return Err(UsageError(wanted.to_owned()).into());
    }
    let backend = Backend::connect(&context.config.redis).await?;
    let asks = !yes && io::stdin().is_terminal();
    let mut cancel = Cancel { backend, context: &context, dry_run, asks };
    if ids.is_empty() { cancel.selection(&selector).await } else { cancel.by_id(&ids).await }
}

struct Cancel<'a> {
    backend: Backend<'a>,
    context: &'a Context,
    dry_run: bool,
    asks: bool,
}

impl Cancel<'_> {
    /// Jobs by their ids.
    async fn by_id(&mut self, ids: &[String]) -> anyhow::Result<Exit> {
        let progress = SearchProgress::on_stderr();
        let mut found = Vec::new();
        for id in ids {
            found.push(jobs::examine(&mut self.backend, id, &MerchantScope::all(), &progress).await?);
        }
        let cancellable = found.iter().filter(|job| job.detail.is_cancellable()).count();
        if self.asks && !self.dry_run && cancellable > 0 {
            let question = match found.as_slice() {
                [job] => format!("cancel {} ({})?", job.id, sentence(&job.detail)),
                _ => format!("cancel {}?", counted(cancellable as u64)),
            };
            if !confirm(false, &question)? {
                return Ok(Exit::Failed);
            }
        }
        let mut exit = Exit::Done;
        for job in found {
            if !job.detail.is_cancellable() {
                exit = Exit::Failed;
            }
            self.one(job).await?;
        }
        Ok(exit)
    }

    async fn one(&mut self, job: JobToCancel) -> anyhow::Result<()> {
        if self.dry_run && job.detail.is_cancellable() {
            if self.context.json {
                return print_json(&json!({"id": job.id, "cancelled": false, "dry_run": true, "detail": job.detail}));
            }
            return print_line(&format!("would be cancelled: {} ({})", job.id, sentence(&job.detail)));
        }
        let done = jobs::cancel_job(&mut self.backend, &this_operator(), job).await?;
        if self.context.json {
            print_json(&json!(done))?;
        }
        let JobCancelled { id, cancelled, detail } = done;
        if !cancelled {
            say(&format!("{id} is not cancelled: {}", sentence(&detail)));
        } else if !self.context.json {
            print_line(&format!("cancelled: {id} ({})", sentence(&detail)))?;
        }
        Ok(())
    }

    /// All jobs that a selector fits.
    async fn selection(&mut self, selector: &Selector) -> anyhow::Result<Exit> {
        let (config, progress) = (&self.context.config, SearchProgress::on_stderr());
        let estimate = jobs::estimate(&mut self.backend, config, selector, &progress).await?;
        if self.dry_run {
            if self.context.json {
                print_json(&estimate)?;
            } else {
                print_line(&in_words(&estimate))?;
            }
        }
        if estimate.is_empty() {
            return Err(Error::NothingFits(selector.describe()).into());
        }
        if let Some(batch) = &selector.batch
            && backfill::one(&mut self.backend, batch).await?.is_some_and(|backfill| !backfill.complete)
        {
            say(&format!("{batch} is a backfill: {STILL_FED}"));
        }
        if self.dry_run {
            return Ok(Exit::Done);
        }
        if self.asks {
            say(&in_words(&estimate));
            let at_least = if estimate.exact { "" } else { "at least " };
            if !confirm(false, &format!("cancel {at_least}{}?", counted(estimate.total())))? {
                return Ok(Exit::Failed);
            }
        }
        let done = jobs::cancel(&mut self.backend, &this_operator(), config, selector, &progress).await?;
        if self.context.json {
            print_json(&json!(done))?;
            return Ok(Exit::Done);
        }
        say(&done.in_force.to_string());
        print_line(&format!("cancelled: {}", selector.describe()))?;
        print_line(&format!(
            "{} delayed {} now; of {} in the lanes, those that fit end as they come up",
            done.delayed,
            if done.delayed == 1 { "job ends" } else { "jobs end" },
            done.in_lanes
        ))?;
        Ok(Exit::Done)
    }
}

/// `1 job`, `20 jobs`
fn counted(count: u64) -> String {
    format!("{count} {}", if count == 1 { "job" } else { "jobs" })
}

fn in_words(estimate: &CancelEstimate) -> String {
    let CancelEstimate { jobs, delayed, waiting, in_flight, looked_at, exact } = estimate;
    let more = if *exact {
        String::new()
    } else {
        format!(
            ", and perhaps more: only the first {looked_at} jobs of the lanes were read. A cancellation covers all that fit"
        )
    };
    format!("{}: {delayed} delayed, {waiting} waiting in the lanes, {in_flight} in flight{more}", jobs.describe())
}

fn sentence(detail: &CancelDetail) -> String {
    let text = match detail {
        CancelDetail::Unknown => "no such job is waiting, and no completion of it was found",
        CancelDetail::Ended(status) => return format!("it has ended: {status}"),
        CancelDetail::Dead => "it has ended; its dead letter is kept",
        CancelDetail::Delayed => "delayed: it ends now",
        CancelDetail::Waiting => "it ends as it comes up",
        CancelDetail::Adrift => "no consumer holds it: it ends when a worker takes it up again",
        CancelDetail::InFlight => "in flight: the current call finishes; no further call is made",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_a_part_says_so() {
        let jobs = Selector { batch: Some("spring".to_owned()), ..Selector::default() };
        let mut counted =
            CancelEstimate { jobs, delayed: 1, waiting: 2, in_flight: 0, looked_at: 200_000, exact: false };
        assert!(in_words(&counted).ends_with(
            "2 waiting in the lanes, 0 in flight, and perhaps more: only the first 200000 jobs of the lanes were read. A cancellation \
             covers all that fit"
        ));
        counted.exact = true;
        assert!(in_words(&counted).ends_with("0 in flight"));
    }
}
