//! How long jobs took: histograms that workers add to.

use crate::queue::{Keys, Link};
use redis::{RedisResult, cmd, pipe};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Upper bounds of the buckets in milliseconds. The last bucket has none.
pub const BOUNDS_MS: [u64; 15] =
    [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000];

/// Life of the counts and of the rings in seconds: a day longer than the longest ring.
pub(super) const LIFE_S: u64 = 691_200;

/// The field of the hash that counts 429s.
const RATE_LIMITED: &str = "429";

/// Number of jobs by how long they took, since ever. The numbers wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram(pub [u32; 16]);

/// The bucket of a duration.
fn bucket(ms: u64) -> usize {
    BOUNDS_MS.partition_point(|bound| *bound < ms)
}

/// What this process has counted since the last time it was added to Redis's counts.
#[derive(Debug, Default)]
pub struct LatencyCounts {
    people: [AtomicU64; 16],
    xco: [AtomicU64; 16],
    rate_limited: AtomicU64,
}

impl LatencyCounts {
    /// Counts how long an interactive job took.
    pub fn people(&self, total_ms: u64) {
        self.people[bucket(total_ms)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts how long the calls of a job took.
    pub fn xco(&self, xco_ms: u64) {
        self.xco[bucket(xco_ms)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a 429.
    pub fn rate_limited(&self) {
        self.rate_limited.fetch_add(1, Ordering::Relaxed);
    }

    fn counters(&self) -> impl Iterator<Item = (String, &AtomicU64)> {
        let people = self.people.iter().enumerate().map(|(n, count)| (format!("i{n}"), count));
        let xco = self.xco.iter().enumerate().map(|(n, count)| (format!("x{n}"), count));
        people.chain(xco).chain([(RATE_LIMITED.to_owned(), &self.rate_limited)])
    }
}

/// Adds what was counted to Redis's counts, in one round trip. After an error it is counted again: a lost reply may count twice, and
/// none is lost.
pub async fn add_latency(link: &mut Link, keys: &Keys, counts: &LatencyCounts) -> RedisResult<()> {
    let taken: Vec<_> =
        counts.counters().map(|(name, count)| (name, count, count.swap(0, Ordering::Relaxed))).collect();
    let mut added = pipe();
    let key = keys.latency();
    for (name, _, count) in taken.iter().filter(|(_, _, count)| *count > 0) {
        added.cmd("HINCRBY").arg(&key).arg(name).arg(*count).ignore();
    }
    if added.is_empty() {
        return Ok(());
    }
    added.cmd("EXPIRE").arg(&key).arg(LIFE_S).ignore();
    let done: RedisResult<()> = link.pipeline(&added).await;
    if done.is_err() {
        for (_, counter, count) in taken {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
    done
}

/// Redis's counts: how long interactive jobs took, how long the calls of a job took, how many calls were answered with 429.
pub(super) async fn read(link: &mut Link, keys: &Keys) -> RedisResult<(Histogram, Histogram, u32)> {
    let counts: HashMap<String, String> = link.query(cmd("HGETALL").arg(keys.latency())).await?;
    let count = |name: &str| counts.get(name).and_then(|text| text.parse().ok()).map_or(0, wrapped);
    let histogram = |start: &str| Histogram(std::array::from_fn(|n| count(&format!("{start}{n}"))));
    Ok((histogram("i"), histogram("x"), count(RATE_LIMITED)))
}

/// A counter since ever in four bytes.
pub(super) const fn wrapped(count: u64) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "only differences are of use")]
    let low = count as u32;
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_below_its_bound() {
        for (ms, wanted) in
            [(0, 0), (5, 0), (6, 1), (100, 4), (101, 5), (1_800_000, 14), (1_800_001, 15), (u64::MAX, 15)]
        {
            assert_eq!(bucket(ms), wanted, "{ms} ms");
        }
        assert_eq!(wrapped(u64::from(u32::MAX) + 3), 2);
    }
}
