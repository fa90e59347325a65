//! Batches: how many of their jobs were enqueued, and how many have ended.
//!
//! Workers count the jobs of a batch, and Redis keeps the counters for 30 days after the last change. Only a backfill says how many jobs it
//! enqueued; of other batches the jobs that workers have admitted are known.

use super::{Backend, Error};
use crate::{
    contract::format_ms,
    queue::{backfill, batches, rules},
    rules::{RuleAction, RuleOrigin, RuleSet, Selector},
};
use redis::RedisResult;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of batches of one page.
pub const MOST_LISTED: usize = 500;

/// Maximum number of steps for one page. Each looks at about a thousand keys.
const MOST_STEPS: usize = 1_000;

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// Its name.
    pub batch: String,
    /// Number of jobs that were enqueued; `None` for a batch that is not a backfill, because nothing counts that.
    pub enqueued: Option<u64>,
    /// Number of jobs that workers have admitted for the first time. The others wait in a lane, are duplicates, or were rejected.
    pub accepted: u64,
    /// Number of jobs that have ended.
    pub ended: u64,
    /// Number of jobs that have ended, by status.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// The operator's cancellation that is in force for the batch. It is removed once all its jobs have ended.
    pub cancelled: Option<BatchCancelled>,
}

/// The cancellation of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchCancelled {
    /// Who ordered it.
    pub who: String,
    /// From which host or address.
    pub from: String,
    /// When, RFC 3339, on Redis's clock.
    pub at: String,
}

/// One page of batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchList {
    /// The batches of this page, by name. A batch may be in more than one page.
    pub batches: Vec<Batch>,
    /// Whether this was the last page.
    pub complete: bool,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<BatchCursor>,
}

/// Where a page of batches begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct BatchCursor(String);

impl std::str::FromStr for BatchCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Redis's cursors are numbers of 64 bits.
        let number: u64 = text.parse().map_err(|_| "a cursor that a list of batches returned".to_owned())?;
        Ok(Self(number.to_string()))
    }
}

impl std::fmt::Display for BatchCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lists batches. A page ends with about `limit` of them, or when a million keys of Redis were looked at. In a cluster only backfills are
/// listed, because the keys of a cluster cannot be searched.
///
/// # Errors
/// [`Error::Redis`].
pub async fn list(backend: &mut Backend<'_>, limit: usize, cursor: Option<&BatchCursor>) -> Result<BatchList, Error> {
    let failed = backend.failed();
    page(backend, limit.clamp(1, MOST_LISTED), cursor).await.map_err(failed)
}

/// One batch. `None` if Redis holds nothing about it.
///
/// # Errors
/// [`Error::Redis`].
pub async fn one(backend: &mut Backend<'_>, name: &str) -> Result<Option<Batch>, Error> {
    let failed = backend.failed();
    let found = async {
        let keys = backend.common_keys();
        let rules = rules::load(&mut backend.link, &keys).await?;
        find(backend, &rules, name).await
    };
    found.await.map_err(failed)
}

async fn page(backend: &mut Backend<'_>, limit: usize, cursor: Option<&BatchCursor>) -> RedisResult<BatchList> {
    let keys = backend.common_keys();
    let rules = rules::load(&mut backend.link, &keys).await?;
    let namespace = backend.namespace();
    let mut names = BTreeSet::new();
    let mut at = cursor.map_or_else(|| "0".to_owned(), ToString::to_string);
    if backend.redis().url.len() > 1 {
        names.extend(backfill::listed(&mut backend.link, &keys).await?.into_iter().map(|(name, ..)| name).take(limit));
        "0".clone_into(&mut at);
    } else {
        for _ in 0..MOST_STEPS {
            let (next, found) = batches::names(&mut backend.link, namespace, &at).await?;
            names.extend(found);
            at = next;
            // A step may find many. None of them is left out, because the next page begins after them.
            if at == "0" || names.len() >= limit {
                break;
            }
        }
    }
    let mut batches = Vec::with_capacity(names.len());
    for name in names {
        batches.extend(find(backend, &rules, &name).await?);
    }
    let complete = at == "0";
    Ok(BatchList { batches, complete, cursor: (!complete).then_some(BatchCursor(at)) })
}

async fn find(backend: &mut Backend<'_>, rules: &RuleSet, name: &str) -> RedisResult<Option<Batch>> {
    let first = backend.common_keys();
    let is_backfill = backfill::stored(&mut backend.link, &first, name).await?.is_some();
    let mut batch = Batch {
        batch: name.to_owned(),
        enqueued: is_backfill.then_some(0),
        accepted: 0,
        ended: 0,
        outcomes: BTreeMap::new(),
        cancelled: cancellation(rules, name),
    };
    let mut is_known = is_backfill || batch.cancelled.is_some();
    for keys in backend.keys() {
        if let Some(enqueued) = &mut batch.enqueued {
            *enqueued += backfill::checkpoint(&mut backend.link, &keys, name).await?.enqueued;
        }
        let Some(counts) = batches::counts(&mut backend.link, &keys, name).await? else { continue };
        is_known = true;
        batch.accepted = batch.accepted.saturating_add(counts.accepted);
        for (status, count) in counts.ended {
            batch.ended = batch.ended.saturating_add(count);
            let sum = batch.outcomes.entry(status).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    Ok(is_known.then_some(batch))
}

fn cancellation(rules: &RuleSet, name: &str) -> Option<BatchCancelled> {
    let batch = Selector { batch: Some(name.to_owned()), ..Selector::default() };
    let (_, _, RuleOrigin { who, from, at_ms, .. }) =
        rules.all().find(|(verb, selector, _)| *verb == RuleAction::Cancel && **selector == batch)?;
    Some(BatchCancelled { who: who.clone(), from: from.clone(), at: format_ms(*at_ms) })
}
