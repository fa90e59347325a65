//! Collects the completions of a batch into the results of its rows.

use crate::{
    backfill::{RowUpdate, row_update},
    completions::{self, Completed},
    contract::EntryId,
    queue::{
        Keys, Link,
        backfill::{self, MAX_ROWS, ResultUpdate},
    },
};
use redis::RedisResult;

/// Completions read at once.
const PAGE: usize = 1000;

/// Collects the completions of a batch in all partitions. Several collectors may run at once or one after another: a completion
/// that is recorded twice counts once.
#[derive(Debug)]
pub(super) struct Collector {
    keys: Vec<Keys>,
    batch: String,
    after: Vec<EntryId>,
    /// The highest row that is known to be enqueued.
    highest: u64,
    /// Completions were trimmed before they were collected, now or in an earlier run.
    missed: bool,
    /// Completions of look-ups that this collector has read.
    looked_up: u64,
}

impl Collector {
    /// Continues where the last collector of the batch was. `keys` are those of all partitions, in their order.
    pub(super) async fn start(link: &mut Link, keys: Vec<Keys>, batch: &str) -> RedisResult<Self> {
        let mut after = Vec::with_capacity(keys.len());
        for keys in &keys {
            let checkpoint = backfill::checkpoint(link, keys, batch).await?;
            after.push(checkpoint.collected.unwrap_or(EntryId { ms: 0, seq: 0 }));
        }
        let missed = backfill::has_missed(link, &keys[0], batch).await?;
        Ok(Self { keys, batch: batch.to_owned(), after, highest: 0, missed, looked_up: 0 })
    }

    /// Whether completions of the batch may have been trimmed before they were collected. Rows may then have ended with an
    /// unknown outcome.
    pub(super) const fn has_missed(&self) -> bool {
        self.missed
    }

    /// Number of completions of look-ups that this collector has read.
    pub(super) const fn looked_up(&self) -> u64 {
        self.looked_up
    }

    /// Records one page of each partition. Returns whether there may be more. Idempotent: after an error, call it again.
    pub(super) async fn step(&mut self, link: &mut Link) -> RedisResult<bool> {
        let mut more = false;
        for partition in 0..self.keys.len() {
            let (keys, after) = (&self.keys[partition], self.after[partition]);
            if !self.missed && completions::extent(link, keys).await?.is_past(after) {
                backfill::set_missed(link, &self.keys[0], &self.batch).await?;
                self.missed = true;
            }
            let page = completions::page(link, keys, after, PAGE).await?;
            let Some(last) = page.last else { continue };
            more |= page.entries == PAGE;
            let mut updates = Vec::new();
            let found: Vec<_> = page.completed.iter().filter_map(|completed| update(&self.batch, completed)).collect();
            for update in found {
                // Anybody can write a completion: one for a row that was never enqueued must not make the results grow.
                if self.is_enqueued(link, update.row).await? {
                    updates.push(update);
                }
            }
            for updates in updates.chunks(MAX_ROWS) {
                backfill::record_results(link, &self.keys[0], &self.batch, updates).await?;
            }
            let looked_up = updates.iter().filter(|update| update.checks.is_some()).count() as u64;
            backfill::set_collected(link, &self.keys[partition], &self.batch, last).await?;
            self.after[partition] = last;
            self.looked_up += looked_up;
        }
        Ok(more)
    }

    async fn is_enqueued(&mut self, link: &mut Link, row: u64) -> RedisResult<bool> {
        if row > self.highest {
            for keys in &self.keys {
                self.highest = self.highest.max(backfill::checkpoint(link, keys, &self.batch).await?.row);
            }
        }
        Ok(row <= self.highest)
    }
}

fn update(batch: &str, completed: &Completed) -> Option<ResultUpdate> {
    let Completed { id, job_type, status, event, .. } = completed;
    let RowUpdate { row, code, checks, creates } = row_update(batch, id, *job_type, *status, event)?;
    Some(ResultUpdate { row, code, checks, creates })
}
