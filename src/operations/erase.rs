//! Erases what Redis holds about one customer.
//!
//! Jobs that have not ended are cancelled, so that each still ends in exactly one completion, as the contract promises. That completion
//! is then erased with the others. A stream entry cannot be edited, so it is deleted: its reader sees a gap.
//!
//! A run is bounded. It reports what it had to leave, and a later run takes that up.

mod backfills;
mod counts;
mod customer;
mod kept;
mod live;
mod runs;

pub use counts::{EraseCounts, MOST_JOBS};
pub use customer::CustomerToErase;

use super::{Actor, Backend, Error, Progress, jobs::cancel_each};
use crate::config::Config;
use customer::Matcher;
use redis::RedisResult;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// What was found about a customer, and what was erased of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EraseReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// What was found.
    pub found: EraseCounts,
    /// What was erased. Of the jobs that had not ended: those that have ended since.
    pub erased: EraseCounts,
    /// Nothing is left. Otherwise the same again, with the jobs of `left`, erases more.
    pub complete: bool,
    /// Ids of jobs that have not ended yet.
    pub left: Vec<String>,
    /// What remains, and until when: sentences.
    pub remains: Vec<String>,
}

/// Counts what Redis holds about a customer. Changes nothing. Reads every job, completion and dead letter.
///
/// # Errors
/// [`Error::Redis`].
pub async fn find(
    backend: &mut Backend<'_>,
    config: &Config,
    customer: &CustomerToErase,
    progress: &dyn Progress,
) -> Result<EraseReport, Error> {
    let failed = backend.failed();
    let matcher = Matcher::new(customer);
    let live = live::find(backend, config, &matcher, progress).await.map_err(&failed)?;
    let mut report = EraseReport::new(true, live.counts);
    report.found.rules = live::rules(backend, customer).await.map_err(&failed)?;
    let mut kept = kept::Kept::new(backend, &matcher, progress, false);
    kept.run(live.ids()).await.map_err(&failed)?;
    report.add(&kept);
    report.add_rest(backend, &matcher, customer, None).await.map_err(&failed)?;
    report.left = live.ids().collect();
    report.conclude(config, live.has_more);
    Ok(report)
}

/// Erases what Redis holds about a customer. Waits at most `wait` for the end of the cancelled jobs; without a worker it does not wait.
///
/// The audit stream records by what the customer was named and how much was found, and no personal data.
///
/// # Errors
/// [`Error::TooManyRules`], [`Error::Redis`]. What was erased by then stays erased, and the same request erases the rest.
pub async fn run(
    backend: &mut Backend<'_>,
    actor: &Actor,
    config: &Config,
    customer: &CustomerToErase,
    wait: Duration,
    progress: &dyn Progress,
) -> Result<EraseReport, Error> {
    let failed = backend.failed();
    let matcher = Matcher::new(customer);
    let live = live::find(backend, config, &matcher, progress).await.map_err(&failed)?;
    let mut report = EraseReport::new(false, live.counts);
    report.found.rules = live::rules(backend, customer).await.map_err(&failed)?;
    let what = json!({"by": customer.by()});
    backend.record(actor, "erase", &what, report.found.total()).await?;
    cancel_each(backend, actor, &live.cancellable()).await?;
    let left = live.wait_for_ends(backend, wait).await.map_err(&failed)?;
    for job in live.jobs.iter().filter(|job| !left.contains(&job.id)) {
        match job.stage {
            live::LiveStage::Waiting => report.erased.waiting += 1,
            live::LiveStage::Delayed => report.erased.delayed += 1,
            live::LiveStage::InFlight => report.erased.in_flight += 1,
        }
    }
    let mut kept = kept::Kept::new(backend, &matcher, progress, true);
    kept.run(live.ids()).await.map_err(&failed)?;
    report.add(&kept);
    report.add_rest(backend, &matcher, customer, Some(actor)).await.map_err(&failed)?;
    report.left = left.into_iter().collect();
    report.conclude(config, live.has_more);
    backend.record(actor, "erase ended", &what, report.erased.total()).await?;
    Ok(report)
}

impl EraseReport {
    fn new(dry_run: bool, found: EraseCounts) -> Self {
        let erased = EraseCounts::default();
        Self { dry_run, found, erased, complete: false, left: Vec::new(), remains: Vec::new() }
    }

    fn add(&mut self, kept: &kept::Kept<'_, '_>) {
        let kept::KeptCounts { completions, replies, dead_letters, edits } = kept.found;
        self.found = EraseCounts { completions, replies, dead_letters, edits, ..self.found };
        let kept::KeptCounts { completions, replies, dead_letters, edits } = kept.erased;
        self.erased = EraseCounts { completions, replies, dead_letters, edits, ..self.erased };
        self.complete = !kept.has_more;
    }

    /// Finds the rest, which is not of jobs, and erases it if `actor` is given.
    async fn add_rest(
        &mut self,
        backend: &mut Backend<'_>,
        matcher: &Matcher<'_>,
        customer: &CustomerToErase,
        actor: Option<&Actor>,
    ) -> RedisResult<()> {
        let replays = runs::find(backend, matcher, actor).await?;
        (self.found.replays, self.erased.replays) = (replays.found, replays.erased);
        for run in &replays.going_on {
            self.complete = false;
            self.remains
                .push(format!("the request of {run}, which goes on: stop it, or wait for its end, and erase again"));
        }
        let backfills = backfills::find(backend, customer, actor.is_some()).await?;
        (self.found.fingerprints, self.erased.fingerprints) = (backfills.found, backfills.erased);
        if backfills.is_unknown && self.found.total() > 0 {
            self.remains.push(
                "a fingerprint in backfills of the last 30 days, if one had the customer: reference and email together find it"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Says what remains. `has_more`: not every job that fits was looked at.
    fn conclude(&mut self, config: &Config, has_more: bool) {
        self.complete &= !has_more && self.left.is_empty() && self.found.rules == 0 && !self.dry_run;
        let rest = std::mem::take(&mut self.remains);
        let mut remains = Vec::new();
        if self.dry_run && self.found.total() > 0 {
            remains.push("everything: nothing was changed".to_owned());
        } else if !self.left.is_empty() {
            let count = self.left.len();
            remains.push(format!("{count} jobs until they end: then erase again, and name these jobs, too"));
        }
        if has_more || (!self.dry_run && self.found.dead_letters > self.erased.dead_letters) {
            remains.push("more than one run erases: erase again".to_owned());
        }
        remains.extend(rest);
        if self.found.rules > 0 {
            remains.push(format!("{} rules that name the customer, until they are resumed or end", self.found.rules));
        }
        if self.found.total() > 0 {
            let kept = crate::config::format_duration(config.queue.index_retention.max(config.queue.dedupe_window));
            remains.extend([
                format!("ids of jobs in the index of ids, for about {kept} after they were read; an id is not meant to name anyone"),
                "the name of a caller in a limit, until the limit is full again, or for half a minute".to_owned(),
                "whatever is in Redis's append-only file until it is rewritten, in snapshots, replicas and backups, at readers of \
                 the completions and in files of a backfill: that is outside of this command"
                    .to_owned(),
            ]);
        }
        self.remains = remains;
    }
}
