//! Replaying dead letters: first the plan, then one by one back into the bulk lane.

use super::{
    outcomes::Outcomes,
    replayer::{ReplayTally, Replayer},
    scan::{Scope, scan, scope},
};
use crate::{
    config::{Config, Rate},
    contract::Fault,
    dead_letters::{
        AcceptedRisks, Changes, DeadLetterView, Estimator, Filter, ReadyReplay, Refused, ReplayEstimate, ReplayRefusal,
        decide_replay,
    },
    operations::{Actor, Backend, Error, Progress, Unfinished},
    queue::{
        IdIndex,
        dead_letters::{self, ReadOrder, ReplayRun},
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Which dead letters are replayed, and how. No `Debug`: an edit may be about a person.
#[derive(Clone)]
pub struct ReplayRequest {
    /// Those that fit.
    pub filter: Filter,
    /// Edits of every job.
    pub changes: Changes,
    /// Replay also jobs that send a code to a customer, although the customer may have left.
    pub send_codes: bool,
    /// Replay also jobs that may have taken effect already.
    pub accept_doubt: bool,
    /// Maximum rate at which dead letters go back into the queue.
    pub rate: Rate,
    /// Maximum number of dead letters, the oldest first.
    pub limit: Option<u64>,
}

/// What a replay would do, and which dead letters its run may touch.
#[derive(Clone)]
pub struct ReplayPlan {
    /// What was asked for.
    pub request: ReplayRequest,
    /// Which dead letters were there when it was planned.
    pub scope: Scope,
    /// What the replay would do.
    pub estimate: ReplayEstimate,
}

/// What a replay did. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// How many dead letters were no longer there.
    pub gone: u64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// How the replayed jobs ended, where it was waited for.
    #[serde(flatten)]
    pub ends: Option<JobEnds>,
    /// How many dead letters went back into the queue.
    pub replayed: u64,
    /// How many were left where they are, because another job has their id by now.
    pub superseded: u64,
    /// How long the replay took, without the wait.
    pub took_ms: u64,
}

/// How replayed jobs ended. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JobEnds {
    /// How many jobs ended in which way: `created`, `failed: upstream`.
    pub outcomes: BTreeMap<String, u64>,
    /// How many have not ended yet.
    pub outstanding: usize,
}

/// A dead letter that is the only one that fits.
#[derive(Clone)]
pub struct SingleDeadLetter {
    /// Its job. No `Debug`: it is about a person.
    pub job: String,
    /// A scope that holds no other dead letter that fits.
    pub scope: Scope,
}

impl ReplayRequest {
    pub(super) fn allowed(&self, config: &Config) -> AcceptedRisks {
        AcceptedRisks {
            codes: self.send_codes,
            doubt: self.accept_doubt,
            missing_caller: config.limits.allow_missing_caller_id,
        }
    }

    /// What becomes of a dead letter that fits. An edit moves no job to a merchant that the filter does not cover.
    fn decide(&self, facts: &DeadLetterView<'_>, allowed: AcceptedRisks) -> Result<ReadyReplay, Refused> {
        let ready = decide_replay(facts, &self.changes, allowed)?;
        if self.filter.merchants.covers_tree(&ready.replay.job) {
            return Ok(ready);
        }
        let detail = "names a merchant that is not yours".to_owned();
        let fault = Fault { pointer: "/merchant_id".to_owned(), detail };
        Err(Refused { refusal: ReplayRefusal::Invalid, faults: vec![fault] })
    }

    /// For the audit stream: without the values of an edit.
    pub(super) fn recorded(&self, as_of_ms: u64) -> Value {
        let mut what = json!({"filter": self.filter.recorded(as_of_ms)});
        if !self.changes.is_empty() {
            what["changed"] = json!(self.changes.pointers());
            what["edited"] = self.changes.whole.is_some().into();
        }
        for (name, given) in [("force", self.send_codes), ("accept_doubt", self.accept_doubt)] {
            if given {
                what[name] = true.into();
            }
        }
        what
    }
}

/// The only dead letter that fits, for an edit of its whole job.
///
/// # Errors
/// [`Error::NoDeadLetter`], [`Error::SeveralDeadLetters`], [`Error::Redis`].
pub async fn single(backend: &mut Backend<'_>, filter: &Filter) -> Result<SingleDeadLetter, Error> {
    let scope = scope(backend, filter).await?;
    let mut found: Option<String> = None;
    let mut scan = scan(backend, &scope, ReadOrder::OldestFirst);
    let ended = scan
        .for_each(filter, |view| {
            if found.is_some() {
                return ControlFlow::Break(());
            }
            found = Some(view.letter.job.clone());
            ControlFlow::Continue(())
        })
        .await?;
    match (found, ended) {
        (None, _) => Err(Error::NoDeadLetter),
        (Some(_), ControlFlow::Break(())) => Err(Error::SeveralDeadLetters),
        (Some(job), ControlFlow::Continue(())) => Ok(SingleDeadLetter { job, scope }),
    }
}

/// Counts what a replay of the dead letters in `scope` would do. Changes nothing.
///
/// `scope` is that of the request's filter, from [`scope`] or from [`single`]. `config` must hold the limits that
/// the workers have: they decide how long a replay takes.
///
/// # Errors
/// [`Error::Redis`].
pub async fn plan(
    backend: &mut Backend<'_>,
    config: &Config,
    request: ReplayRequest,
    scope: Scope,
) -> Result<ReplayPlan, Error> {
    let (allowed, limit) = (request.allowed(config), request.limit.unwrap_or(u64::MAX));
    let mut estimator = Estimator::new(config);
    let mut scan = scan(backend, &scope, ReadOrder::OldestFirst);
    let _ = scan
        .for_each(&request.filter, |view| {
            estimator.count(view, &request.decide(view, allowed));
            if estimator.replay() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
    let (failed, keys) = (backend.failed(), backend.keys());
    let mut buckets = Vec::new();
    for busy in estimator.busiest() {
        let Some(keys) = keys.get(usize::from(busy.partition)) else { continue };
        let state = dead_letters::peek(&mut backend.link, keys, &busy.bucket).await.map_err(&failed)?;
        buckets.push((busy, state));
    }
    let estimate = estimator.finish(request.rate, &buckets);
    Ok(ReplayPlan { request, scope, estimate })
}

/// Replays what the plan counted: at most as many dead letters, and none that were written later. With `wait`, follows the
/// replayed jobs to their end, at most that long. The actor is recorded in the audit stream before and after.
///
/// It ends early when `stop` is cancelled or the future is dropped. Each dead letter moves in one step: at any time it is either
/// a dead letter or a job, and the same request replays what is left.
///
/// # Errors
/// [`Unfinished`], with the reason and with what was done by then.
pub async fn run(
    backend: &mut Backend<'_>,
    config: &Config,
    actor: &Actor,
    plan: &ReplayPlan,
    wait: Option<Duration>,
    progress: &dyn Progress,
    stop: &CancellationToken,
) -> Result<ReplayReport, Unfinished<ReplayReport>> {
    let what = plan.request.recorded(plan.scope.as_of_ms);
    let begun = backend.record(actor, "dead replay", &what, plan.estimate.replay).await;
    begun.map_err(Unfinished::not_begun)?;
    let outcomes = match wait {
        Some(_) => Some(
            Outcomes::follow(backend.redis())
                .await
                .map_err(|error| Unfinished::not_begun(Error::queue(backend.redis(), error)))?,
        ),
        None => None,
    };
    progress.set_total(plan.estimate.replay);
    let start = Instant::now();
    let run = ReplayRun::new(actor.name().to_owned(), IdIndex::of(&config.queue));
    let to = (backend.another_link(), backend.keys());
    let mut replayer = Replayer::new(to, run, plan.request.rate, outcomes, progress, stop);
    let ReplayPlan { request, scope, estimate } = plan;
    let allowed = request.allowed(config);
    let moved = move_letters(backend, (request, allowed), scope, estimate.replay, &mut replayer).await;
    let took = start.elapsed();
    let interrupted = stop.is_cancelled();
    let (tally, mut outcomes) = replayer.finish();
    // Recorded also after a failure. Where Redis is gone, the failure is what is reported.
    let recorded = backend.record(actor, "dead replay ended", &what, tally.replayed).await;
    if let (Some(outcomes), Some(longest), Ok(())) = (&mut outcomes, wait, &moved) {
        progress.note(&format!("{} replayed; waiting for the jobs to end …", tally.replayed));
        tokio::select! {
            () = outcomes.wait(longest) => {}
            () = stop.cancelled(), if !interrupted => {}
        }
    }
    let report = report(tally, interrupted, took, outcomes);
    match moved.and(recorded) {
        Ok(()) => Ok(report),
        Err(error) => Err(Unfinished { report: Some(report), error }),
    }
}

/// Moves the dead letters in `scope` that fit and can be replayed, at most `left` of them.
pub(super) async fn move_letters(
    backend: &Backend<'_>,
    (request, allowed): (&ReplayRequest, AcceptedRisks),
    scope: &Scope,
    mut left: u64,
    replayer: &mut Replayer<'_>,
) -> Result<(), Error> {
    let failed = backend.failed();
    let mut scan = scan(backend, scope, ReadOrder::OldestFirst);
    while let Some(page) = scan.next().await? {
        for letter in &page {
            if left == 0 {
                break;
            }
            let decided = {
                let view = DeadLetterView::new(letter);
                request.filter.wants(&view).then(|| request.decide(&view, allowed))
            };
            let Some(Ok(ready)) = decided else { continue };
            left -= 1;
            replayer.push(letter.partition, ready.replay).await.map_err(&failed)?;
            if replayer.is_stopped() {
                return Ok(());
            }
        }
        if left == 0 {
            break;
        }
    }
    replayer.flush().await.map_err(failed)
}

/// Whether any dead letter in `scope` fits and can be replayed. Reads until the first.
pub(super) async fn any_fits(
    backend: &Backend<'_>,
    (request, allowed): (&ReplayRequest, AcceptedRisks),
    scope: &Scope,
) -> Result<bool, Error> {
    let mut scan = scan(backend, scope, ReadOrder::OldestFirst);
    let found = scan
        .for_each(&request.filter, |facts| match request.decide(facts, allowed) {
            Ok(_) => ControlFlow::Break(()),
            Err(_) => ControlFlow::Continue(()),
        })
        .await?;
    Ok(found.is_break())
}

fn report(tally: ReplayTally, interrupted: bool, took: Duration, outcomes: Option<Outcomes>) -> ReplayReport {
    let ReplayTally { replayed, gone, superseded } = tally;
    let ends =
        outcomes.map(|outcomes| JobEnds { outstanding: outcomes.outstanding(), outcomes: outcomes.into_counts() });
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    ReplayReport { gone, interrupted, ends, replayed, superseded, took_ms }
}
