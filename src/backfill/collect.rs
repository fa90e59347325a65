//! Completions of a batch → its results.

use super::outcome::update;
use crate::{
    completions,
    contract::EntryId,
    queue::{
        Keys, Link,
        backfill::{self, MAX_ROWS},
    },
};
use redis::RedisResult;

/// Completions read at once.
const PAGE: usize = 1000;

/// Collects a batch's completions, of all partitions. Several may, at the same time or after each other: what is recorded
/// twice is recorded once.
#[derive(Debug)]
pub struct Collector {
    keys: Vec<Keys>,
    batch: String,
    after: Vec<EntryId>,
    /// The highest row enqueued, as far as known here.
    highest: u64,
    /// Completions were trimmed before they were collected, now or in an earlier run.
    missed: bool,
}

impl Collector {
    /// Goes on where collecting has come to. `keys`: all partitions, in order.
    pub async fn start(link: &mut Link, keys: Vec<Keys>, batch: &str) -> RedisResult<Self> {
        let mut after = Vec::with_capacity(keys.len());
        for keys in &keys {
            let mark = backfill::mark(link, keys, batch).await?;
            after.push(mark.collected.unwrap_or(EntryId { ms: 0, seq: 0 }));
        }
        let missed = backfill::has_missed(link, &keys[0], batch).await?;
        Ok(Self { keys, batch: batch.to_owned(), after, highest: 0, missed })
    }

    /// Whether completions of the batch may have been trimmed before they were collected: rows may have ended, and how is
    /// not known.
    pub const fn has_missed(&self) -> bool {
        self.missed
    }

    /// Records a page of each partition; whether there may be more. Safe to repeat after an error.
    pub async fn step(&mut self, link: &mut Link) -> RedisResult<bool> {
        let mut more = false;
        for partition in 0..self.keys.len() {
            let (keys, after) = (&self.keys[partition], self.after[partition]);
            if !self.missed && completions::extent(link, keys).await?.is_past(after) {
                backfill::missed(link, &self.keys[0], &self.batch).await?;
                self.missed = true;
            }
            let page = completions::page(link, keys, after, PAGE).await?;
            let Some(last) = page.last else { continue };
            more |= page.entries == PAGE;
            let mut updates = Vec::new();
            let told: Vec<_> = page.completed.iter().filter_map(|completed| update(&self.batch, completed)).collect();
            for update in told {
                // Anybody can write a completion: a row that was never enqueued must not make the results grow.
                if self.is_enqueued(link, update.row).await? {
                    updates.push(update);
                }
            }
            for updates in updates.chunks(MAX_ROWS) {
                backfill::record(link, &self.keys[0], &self.batch, updates).await?;
            }
            backfill::collected(link, &self.keys[partition], &self.batch, last).await?;
            self.after[partition] = last;
        }
        Ok(more)
    }

    async fn is_enqueued(&mut self, link: &mut Link, row: u64) -> RedisResult<bool> {
        if row > self.highest {
            for keys in &self.keys {
                self.highest = self.highest.max(backfill::mark(link, keys, &self.batch).await?.row);
            }
        }
        Ok(row <= self.highest)
    }
}
