//! Customers that an earlier batch of the merchant created: an account that the look-up of a row finds may be such a customer's.
//!
//! Each batch keeps the fingerprints of its customers (`queue/backfill/customers.rs`) for as long as its results. A report compares those of
//! its rows that need a consent with those that other batches created.

use super::lost::RESULT_PAGE_ROWS;
use crate::{
    backfill::{RowOutcome, RowResult},
    queue::{
        Keys, Link,
        backfill::{self, MAX_ROWS, ResultUpdate, customers},
    },
};
use redis::RedisResult;
use std::collections::HashMap;

/// The salt of a batch's fingerprints: that of the batch that began last before it, so that the two can be compared.
pub(super) async fn salt(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<String> {
    if let Some(salt) = customers::salt(link, first, batch).await? {
        return Ok(salt);
    }
    for other in others(link, first, batch).await? {
        if let Some(salt) = customers::salt(link, first, &other).await? {
            return customers::set_salt(link, first, batch, &salt).await;
        }
    }
    let new = format!("{:032x}", rand::random::<u128>());
    customers::set_salt(link, first, batch, &new).await
}

/// The other batches, the latest first. Redis may have forgotten some.
async fn others(link: &mut Link, first: &Keys, batch: &str) -> RedisResult<Vec<String>> {
    let mut begun = backfill::begun(link, first).await?;
    begun.retain(|(other, _)| other != batch);
    begun.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(begun.into_iter().map(|(other, _)| other).collect())
}

/// Records which rows up to `last` need no consent, because another batch created their customers. Returns the batches of which Redis does
/// not know (any more) whom they created; none if no row needs a consent.
pub(super) async fn mark(link: &mut Link, first: &Keys, batch: &str, last: u64) -> RedisResult<Vec<String>> {
    let mut existing = Existing::read(link, first, batch, last).await?;
    let mut unknown = Vec::new();
    if existing.is_empty() {
        return Ok(unknown);
    }
    let salt = customers::salt(link, first, batch).await?;
    for other in others(link, first, batch).await? {
        let is_comparable = salt.is_some() && customers::salt(link, first, &other).await? == salt;
        if !is_comparable || !compare(link, first, batch, &other, &mut existing.rows).await? {
            unknown.push(other);
        }
        if existing.is_empty() {
            return Ok(Vec::new());
        }
    }
    Ok(unknown)
}

/// The rows that need a consent.
#[derive(Default)]
struct Existing {
    /// Their numbers, by fingerprint.
    rows: HashMap<u64, u64>,
    /// There are others, without a fingerprint: a former version enqueued them, or it was erased.
    has_others: bool,
}

impl Existing {
    /// Reads the rows up to `last`.
    async fn read(link: &mut Link, first: &Keys, batch: &str, last: u64) -> RedisResult<Self> {
        let mut existing = Self::default();
        let mut from = 1;
        while from <= last {
            let count = RESULT_PAGE_ROWS.min(last - from + 1);
            let results = backfill::results(link, first, batch, from, count).await?;
            let results: Vec<_> = results.chunks(RowResult::BYTES).map(RowResult::decode).collect();
            if results.iter().any(|result| result.outcome == RowOutcome::NeedsConsent) {
                let fingerprints = customers::fingerprints(link, first, batch, from, count).await?;
                for (index, row) in (from..from + count).enumerate() {
                    if results.get(index).is_some_and(|result| result.outcome == RowOutcome::NeedsConsent) {
                        match fingerprints.get(index) {
                            None | Some(0 | &customers::ERASED) => existing.has_others = true,
                            Some(fingerprint) => drop(existing.rows.insert(*fingerprint, row)),
                        }
                    }
                }
            }
            from += count;
        }
        Ok(existing)
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.has_others
    }
}

/// Records the rows whose customers `other` created, and takes them out of `existing`. Returns whether the fingerprint of each customer that
/// it created is known. In a batch of a former version, it is not.
async fn compare(
    link: &mut Link,
    first: &Keys,
    batch: &str,
    other: &str,
    existing: &mut HashMap<u64, u64>,
) -> RedisResult<bool> {
    let (mut from, mut is_known) = (1, true);
    loop {
        let results = backfill::results(link, first, other, from, RESULT_PAGE_ROWS).await?;
        if results.is_empty() {
            return Ok(is_known);
        }
        let fingerprints = customers::fingerprints(link, first, other, from, RESULT_PAGE_ROWS).await?;
        let mut updates = Vec::new();
        for (index, result) in results.chunks(RowResult::BYTES).enumerate() {
            // What is known of a batch stays known when Redis forgets the batch, as long as a later one has the same customer.
            if matches!(RowResult::decode(result).outcome, RowOutcome::Created | RowOutcome::CreatedBefore) {
                let fingerprint = fingerprints.get(index).copied().unwrap_or(0);
                is_known &= fingerprint != 0;
                updates.extend(existing.remove(&fingerprint).map(ResultUpdate::created_before));
            }
        }
        for updates in updates.chunks(MAX_ROWS) {
            backfill::record_results(link, first, batch, updates).await?;
        }
        from += RESULT_PAGE_ROWS;
    }
}
