//! The index of ids: from a job's id to where the job was enqueued, and then to where it ended. `lua/ids/index.lua` explains
//! its format. Admission reserves ids in it, and the end of a job adds where its completion is.

use super::{Keys, Link};
use crate::{
    config::QueueConfig,
    contract::{EntryId, Lane, Origin, millis},
};
use redis::{RedisResult, cmd, pipe};
use std::time::Duration;

/// A dedupe window has about this many slices. More slices free memory sooner, and cost more look-ups for each job.
const SLICES_IN_WINDOW: u64 = 3;

/// Maximum number of slices that [`locate`] reads, the latest first.
const MAX_SLICES: isize = 2_000;

/// How long a job may wait and still find what was reserved before it, if no worker forgets ids meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 86_400);

/// How ids are reserved, and how long the index keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdIndex {
    /// Two jobs of one id that are enqueued within this time are duplicates (`queue.dedupe_window`).
    dedupe_window: Duration,
    /// How long an id can be found at least (`queue.index_retention`).
    retention: Duration,
}

impl IdIndex {
    /// Creates the settings of an index. It keeps ids at least as long as they are reserved.
    pub const fn new(dedupe_window: Duration, retention: Duration) -> Self {
        Self { dedupe_window, retention }
    }

    /// Returns the configured settings.
    pub const fn of(config: &QueueConfig) -> Self {
        Self::new(config.dedupe_window, config.index_retention)
    }

    /// Returns the time within which a second job of an id is a duplicate.
    pub const fn dedupe_window(&self) -> Duration {
        self.dedupe_window
    }

    /// Returns how long an id can be found at least.
    pub const fn retention(&self) -> Duration {
        self.retention
    }

    pub(super) fn window_ms(&self) -> u64 {
        millis(self.dedupe_window).max(1)
    }

    /// Returns the width of a slice: never more than the window, so that an id has one holder in a slice.
    pub(super) fn width_ms(&self) -> u64 {
        self.window_ms().div_ceil(SLICES_IN_WINDOW)
    }

    /// Returns how long a slice is kept after the last reservation in it, if no worker deletes it earlier.
    pub(super) fn life_ms(&self) -> u64 {
        millis(self.dedupe_window.saturating_add(self.retention).saturating_add(LONGEST_WAIT))
    }

    pub(super) fn retention_ms(&self) -> u64 {
        millis(self.retention)
    }
}

/// Returns how the index writes an origin, given as text: the first letter of its lane, and its entry.
pub(super) fn holder(origin: &str) -> String {
    let entry = origin.rsplit_once(':').map_or("", |(_, entry)| entry);
    format!("{}{entry}", origin.get(..1).unwrap_or_default())
}

/// Returns when the first and the last of these origins, given as text, were enqueued, in milliseconds. An origin that
/// cannot be read counts as the latest time, as in the scripts.
pub(super) fn enqueued_between<'a>(origins: impl Iterator<Item = &'a str>) -> (u64, u64) {
    let ms = |origin: &str| {
        let (_, entry) = origin.rsplit_once(':')?;
        entry.split_once('-')?.0.parse().ok()
    };
    origins.map(|origin| ms(origin).unwrap_or(LATEST_MS)).fold((LATEST_MS, 0), |(first, last): (u64, u64), ms: u64| {
        let ms = ms.min(LATEST_MS);
        (first.min(ms), last.max(ms))
    })
}

/// Later than any clock, and exact as a Lua number.
const LATEST_MS: u64 = 1 << 53;

/// Where the job of an id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Where the job was enqueued.
    pub origin: Origin,
    /// The entry of its completion in `{NS:P}:completions`. `None` if the job has not ended, or if it ended after the
    /// index had forgotten its id.
    pub ended: Option<EntryId>,
}

impl Located {
    /// Parses a value of a slice.
    fn parse(value: &str, partition: u16) -> Option<Self> {
        let (holder, ended) = value.split_once(' ').map_or((value, None), |(holder, ended)| (holder, Some(ended)));
        let lane = Lane::ALL.into_iter().find(|lane| holder.get(..1) == lane.as_str().get(..1))?;
        let origin = Origin { lane, partition, entry: holder.get(1..)?.parse().ok()? };
        Some(Self { origin, ended: ended.and_then(|entry| entry.parse().ok()) })
    }
}

/// Returns where the latest job of an id in this partition is. O(slices), in three round trips at most.
pub async fn locate(link: &mut Link, keys: &Keys, id: &str) -> RedisResult<Option<Located>> {
    let slices: Vec<String> = link.query(cmd("ZRANGE").arg(&keys.index).arg(-MAX_SLICES).arg(-1)).await?;
    let mut asked = pipe();
    asked.cmd("TYPE").arg(&keys.ids);
    for slice in &slices {
        asked.cmd("HGET").arg(keys.slice(slice)).arg(id);
    }
    let values: Vec<Option<String>> = link.pipeline(&asked).await?;
    let mut found: Vec<Located> =
        values.iter().skip(1).flatten().filter_map(|value| Located::parse(value, keys.partition)).collect();
    if values.first().is_some_and(|kind| kind.as_deref() != Some("none")) {
        // A former version may have reserved it. The latest origin comes first.
        let origins: Option<String> = link.query(cmd("GET").arg(keys.former_id(id))).await?;
        let origin = origins.and_then(|origins| origins.split(' ').next()?.parse().ok());
        found.extend(origin.map(|origin| Located { origin, ended: None }));
    }
    Ok(found.into_iter().max_by_key(|located| (located.origin.entry, located.ended)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_names_the_origin_and_the_completion() {
        let origin: Origin = "bulk:3:17-4".parse().unwrap();
        assert_eq!(holder("bulk:3:17-4"), "b17-4");
        assert_eq!(Located::parse("b17-4", 3), Some(Located { origin, ended: None }));
        let ended = Some(EntryId { ms: 20, seq: 1 });
        assert_eq!(Located::parse("b17-4 20-1", 3), Some(Located { origin, ended }));
        for foreign in ["", "x17-4", "b", "é17-4", " 17-4"] {
            assert_eq!(Located::parse(foreign, 3), None, "{foreign}");
        }
    }

    #[test]
    fn the_times_of_origins_are_bounded() {
        assert_eq!(enqueued_between(["bulk:3:17-4", "interactive:0:12-0", "bulk:3:15-9"].into_iter()), (12, 17));
        assert_eq!(
            enqueued_between(["bulk:3:17-4", "odd", "bulk:3:99999999999999999999-0"].into_iter()),
            (17, LATEST_MS)
        );
        assert_eq!(enqueued_between(["bulk:3:18446744073709551615-0"].into_iter()), (LATEST_MS, LATEST_MS));
        assert_eq!(enqueued_between(std::iter::empty()), (LATEST_MS, 0));
    }

    #[test]
    fn a_slice_is_no_wider_than_the_window() {
        for window_ms in [1, 2, 3, 200, 1000, 3_600_000] {
            let index = IdIndex::new(Duration::from_millis(window_ms), Duration::ZERO);
            let width_ms = index.width_ms();
            assert!(width_ms >= 1 && width_ms <= window_ms, "{window_ms}");
            assert!(window_ms.div_ceil(width_ms) <= SLICES_IN_WINDOW, "{window_ms}");
        }
    }
}
