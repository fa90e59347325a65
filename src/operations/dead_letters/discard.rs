//! Removing dead letters for good.

use super::scan::{Patience, Scope, scan, scope};
use crate::{
    contract::EntryId,
    dead_letters::{DeadLetterView, Filter, KindCount, KindCounts},
    operations::{Actor, Backend, Error, Progress, Unfinished},
    queue::{
        Keys, Link,
        dead_letters::{self, ReadOrder},
    },
};
use redis::RedisError;
use serde::Serialize;
use serde_json::json;
use std::{convert::Infallible, ops::ControlFlow};
use tokio_util::sync::CancellationToken;

/// Maximum number of dead letters that one command removes.
const STEP: usize = 500;

/// What a discard would remove, and which dead letters its run may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscardPlan {
    /// The dead letters that fit.
    pub filter: Filter,
    /// Those that were there when it was planned.
    pub scope: Scope,
    /// What would be removed.
    pub estimate: DiscardEstimate,
}

/// What a discard would remove. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiscardEstimate {
    /// How many dead letters.
    pub discard: u64,
    /// How many by type and error.
    pub kinds: Vec<KindCount>,
}

/// What a discard removed. The members are in the order in which JSON prints them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DiscardReport {
    /// How many dead letters were removed.
    pub discarded: u64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

/// Counts what a discard would remove. Changes nothing.
///
/// # Errors
/// [`Error::Redis`].
pub async fn plan(backend: &mut Backend<'_>, filter: Filter) -> Result<DiscardPlan, Error> {
    let scope = scope(backend, &filter).await?;
    let (mut kinds, mut discard) = (KindCounts::default(), 0);
    let mut scan = scan(backend, &scope, ReadOrder::OldestFirst);
    let _: ControlFlow<Infallible> = scan
        .for_each(&filter, |view| {
            kinds.count(view, None);
            discard += 1;
            ControlFlow::Continue(())
        })
        .await?;
    Ok(DiscardPlan { filter, scope, estimate: DiscardEstimate { discard, kinds: kinds.into_vec() } })
}

/// Removes what the plan counted, and nothing else. The actor is recorded in the audit stream before and after.
///
/// It ends early when `stop` is cancelled or the future is dropped. What has been removed by then stays removed, and the same
/// request removes the rest.
///
/// # Errors
/// [`Unfinished`], with the reason and with what was removed by then.
pub async fn run(
    backend: &mut Backend<'_>,
    actor: &Actor,
    plan: &DiscardPlan,
    progress: &dyn Progress,
    stop: &CancellationToken,
) -> Result<DiscardReport, Unfinished<DiscardReport>> {
    let what = json!({"filter": plan.filter.recorded(plan.scope.as_of_ms)});
    let begun = backend.record(actor, "dead discard", &what, plan.estimate.discard).await;
    begun.map_err(Unfinished::not_begun)?;
    progress.set_total(plan.estimate.discard);
    let mut discarded = 0;
    let DiscardPlan { filter, scope, estimate } = plan;
    let removed = remove(backend, (filter, scope, estimate.discard), progress, stop, &mut discarded).await;
    let recorded = backend.record(actor, "dead discard ended", &what, discarded).await;
    let report = DiscardReport { discarded, interrupted: stop.is_cancelled() };
    match removed.and(recorded) {
        Ok(()) => Ok(report),
        Err(error) => Err(Unfinished { report: Some(report), error }),
    }
}

/// Removes the dead letters in a scope that fit, at most `most` of them.
pub(super) async fn remove(
    backend: &Backend<'_>,
    (filter, scope, most): (&Filter, &Scope, u64),
    progress: &dyn Progress,
    stop: &CancellationToken,
    discarded: &mut u64,
) -> Result<(), Error> {
    let failed = backend.failed();
    let (keys, mut link) = (backend.keys(), backend.another_link());
    let mut left = usize::try_from(most).unwrap_or(usize::MAX);
    let mut scan = scan(backend, scope, ReadOrder::OldestFirst);
    while let Some(page) = scan.next().await? {
        let Some(keys) = page.first().and_then(|letter| keys.get(usize::from(letter.partition))) else {
            continue;
        };
        let fitting = page.iter().filter(|letter| filter.wants(&DeadLetterView::new(letter)));
        let fitting: Vec<EntryId> = fitting.take(left).map(|letter| letter.entry).collect();
        left -= fitting.len();
        for step in fitting.chunks(STEP) {
            if stop.is_cancelled() {
                return Ok(());
            }
            let removed = remove_step(&mut link, keys, step).await.map_err(&failed)?;
            *discarded += removed;
            progress.advance(removed);
        }
        if left == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Removes a few dead letters; returns how many. After a lost reply, all of them: they are gone, but which command removed them is
/// not known.
async fn remove_step(link: &mut Link, keys: &Keys, step: &[EntryId]) -> Result<u64, RedisError> {
    let mut patience = Patience::default();
    loop {
        match dead_letters::discard(link, keys, step).await {
            Ok(_) if patience.was_tried() => return Ok(step.len() as u64),
            Ok(removed) => return Ok(removed),
            Err(error) => patience.after(error).await?,
        }
    }
}
