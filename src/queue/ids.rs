//! Forgets ids: the slices of the index, and what former versions reserved (the typed wrappers of `lua/ids/forget_slice.lua`
//! and `lua/ids/forget_ids.lua`).

use super::{
    IdIndex, Keys, Link, clock,
    maintenance::heads,
    script::{Script, script},
};
use crate::contract::{Lane, millis};
use redis::{RedisResult, cmd};
use std::{ops::RangeInclusive, sync::LazyLock, time::Duration};

static FORGET: LazyLock<Script> = LazyLock::new(|| script!("ids/forget_ids" on "shared/atomic"));
static FORGET_SLICE: LazyLock<Script> = LazyLock::new(|| script!("ids/forget_slice"));

/// Number of list elements examined in one step. It covers several whole batches of an admission.
const LOOK: usize = 1024;

/// Maximum number of slices forgotten in one step.
const MAX_SLICES: usize = 64;

/// A slice with more fields than this is emptied in steps first.
const MAX_FIELDS: u64 = 4_096;

/// Additional time that an id is kept after the window, because a job may be with a worker, or be handed back,
/// meanwhile.
const MARGIN: Duration = Duration::from_secs(10);

/// Forgets some of the ids for which no waiting job can be a duplicate: a dedupe window has passed since they were
/// reserved, and all jobs enqueued within it have been examined. Returns whether there may be more. One bounded step.
pub async fn forget(link: &mut Link, keys: &Keys, dedupe_window: Duration) -> RedisResult<bool> {
    let list: Vec<String> = link.query(cmd("LRANGE").arg(&keys.ids).arg(0).arg(LOOK - 1)).await?;
    if list.is_empty() {
        return Ok(false);
    }
    let Times { now_ms, oldest_ms } = times(link, keys).await?;
    let kept_ms = kept_ms(dedupe_window);
    let before_ms = oldest_ms.saturating_sub(kept_ms);
    // A later time can only come from before the clock went back. Such ids are forgotten too, so that the list does not
    // grow until the clock has caught up.
    let latest_ms = now_ms.saturating_add(kept_ms);

    let whole = list.len() < LOOK;
    let Some(end) = forgettable(&list, before_ms..=latest_ms, whole) else { return Ok(false) };
    let ids: Vec<&String> = list[..end].iter().filter(|element| !element.starts_with('@')).collect();
    let mut call = FORGET.call(1 + ids.len());
    call.arg(&keys.ids);
    for id in ids {
        call.arg(id);
    }
    call.arg(&list[0]).arg(end).arg(before_ms).arg(now_ms);
    FORGET.run(link, &call).await?;
    Ok(!whole || end < list.len())
}

/// Forgets the slices of the index for whose jobs no waiting job can be a duplicate, and that are older than the index
/// is to keep them. Returns whether there may be more. Takes a script call for each slice, and for each thousand ids of a
/// large one.
pub async fn forget_slices(link: &mut Link, keys: &Keys, index: IdIndex) -> RedisResult<bool> {
    let Times { now_ms, oldest_ms } = times(link, keys).await?;
    let kept_ms = kept_ms(index.dedupe_window());
    let before_ms = oldest_ms.saturating_sub(kept_ms).min(now_ms.saturating_sub(index.retention_ms()));
    let mut old = cmd("ZRANGEBYSCORE");
    old.arg(&keys.index).arg("-inf").arg(before_ms).arg("LIMIT").arg(0).arg(MAX_SLICES);
    let slices: Vec<String> = link.query(&old).await?;
    // A job that waited for long may reserve its id only now, and its duplicates may come next.
    let lately_ms = index.life_ms().saturating_sub(kept_ms);
    let mut any_forgotten = false;
    for slice in &slices {
        any_forgotten |= forget_slice(link, keys, slice, lately_ms).await?;
    }
    Ok(any_forgotten && slices.len() == MAX_SLICES)
}

/// Forgets one slice. Returns `false` if it stays, because it expires later than after `lately_ms`.
async fn forget_slice(link: &mut Link, keys: &Keys, slice: &str, lately_ms: u64) -> RedisResult<bool> {
    // The cursor goes on from step to step: what one step emptied is not looked at again.
    let mut cursor = "0".to_owned();
    loop {
        let mut call = FORGET_SLICE.call(2);
        call.arg(&keys.index).arg(keys.slice(slice)).arg(slice).arg(lately_ms).arg(MAX_FIELDS).arg(&cursor);
        let (answer, next): (u8, String) = redis::from_redis_value(FORGET_SLICE.run(link, &call).await?)?;
        match answer {
            0 => return Ok(true),
            1 => return Ok(false),
            _ => cursor = next,
        }
    }
}

/// What decides which ids are needed.
struct Times {
    /// Redis's clock.
    now_ms: u64,
    /// When the oldest waiting job was enqueued, or `now_ms`.
    oldest_ms: u64,
}

async fn times(link: &mut Link, keys: &Keys) -> RedisResult<Times> {
    let now_ms = clock::now_ms(link).await?;
    // This is asked after the time, so that jobs enqueued from now on are younger.
    let waiting = heads(link, &Lane::ALL.map(|lane| [keys.due(lane), keys.jobs(lane)]).concat()).await?;
    let oldest_ms = waiting.into_iter().flatten().map(|entry| entry.ms).fold(now_ms, u64::min);
    Ok(Times { now_ms, oldest_ms })
}

/// How long a reserved id is needed, after all jobs enqueued before have been examined.
fn kept_ms(dedupe_window: Duration) -> u64 {
    millis(dedupe_window.saturating_add(MARGIN.min(dedupe_window)))
}

/// Returns how many elements can be removed: the whole batches before the first one that was reserved within `kept_ms`.
/// `None` if that is the first batch. The last batch counts only if the end of the list was seen.
fn forgettable(list: &[String], kept_ms: RangeInclusive<u64>, whole: bool) -> Option<usize> {
    let mut end = None;
    for (place, element) in list.iter().enumerate() {
        let Some(reserved_ms) = element.strip_prefix('@') else { continue };
        if place > 0 {
            end = Some(place);
        }
        if reserved_ms.parse::<u64>().is_ok_and(|reserved_ms| kept_ms.contains(&reserved_ms)) {
            return end;
        }
    }
    if whole { (!list.is_empty()).then_some(list.len()) } else { end.or(Some(list.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(of: &[&str]) -> Vec<String> {
        of.iter().map(|element| (*element).to_owned()).collect()
    }

    #[test]
    fn whole_batches_go_that_were_reserved_before() {
        let three = list(&["@10", "a", "b", "@20", "c", "@30", "d"]);
        assert_eq!(forgettable(&three, 10..=99, true), None, "not before then");
        assert_eq!(forgettable(&three, 11..=99, true), Some(3));
        assert_eq!(forgettable(&three, 25..=99, true), Some(5));
        assert_eq!(forgettable(&three, 31..=99, true), Some(7));
        assert_eq!(forgettable(&three, 31..=99, false), Some(5), "the last may go on behind what was seen");
        assert_eq!(forgettable(&list(&["a", "b", "@20"]), 15..=99, true), Some(2), "what has no time is old");
        assert_eq!(forgettable(&three, 5..=15, true), None);
        assert_eq!(forgettable(&list(&["@90", "a", "@20", "b"]), 15..=50, true), Some(2), "of a clock that went back");
        assert_eq!(forgettable(&[], 15..=99, true), None);
    }
}
