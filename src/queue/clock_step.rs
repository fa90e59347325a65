//! Handles steps of Redis's clock: the typed wrappers of `lua/schedule/clock.lua`, `lua/schedule/clock_ahead.lua` and
//! `lua/schedule/clock_put_back.lua`.
//!
//! The ids of stream entries are times, and a delayed job is due at a time. When the clock goes back (NTP, a failover
//! to another host), both are in the future. Each look records the clock in `{NS:P}:meta`, so that a step is detected
//! even if no worker was running when it happened.

use super::{
    Keys, Link,
    script::{Script, script},
};
use crate::contract::{EntryId, Lane, millis};
use redis::{RedisResult, Value};
use std::{sync::LazyLock, time::Duration};

static LOOK: LazyLock<Script> = LazyLock::new(|| script!("schedule/clock" on "shared/fields"));
static AHEAD: LazyLock<Script> = LazyLock::new(|| script!("schedule/clock_ahead"));
static PUT_BACK: LazyLock<Script> = LazyLock::new(|| script!("schedule/clock_put_back" on "shared/atomic"));

/// Maximum number of delayed jobs that one call moves, and approximate number that one step of a search examines.
pub const MAX_PUT_BACK: usize = 250;

/// A step of the clock backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackStep {
    /// The number of the step, counted from 1.
    pub number: u32,
    /// The clock after the step, in milliseconds.
    pub to_ms: u64,
    /// How far the clock went back, in milliseconds. This is a minimum if no worker was running when it happened.
    pub by_ms: u64,
    /// The last entry of each lane before the step, by [`Lane`].
    seen: [EntryId; 2],
    /// For each [`Lane`], the last entry that may have been added when the clock was already wrong.
    fence: [EntryId; 2],
}

/// The steps that a partition remembers: the latest few, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackSteps(Vec<BackStep>);

impl BackSteps {
    /// Parses the steps in `meta`. Invalid lines are ignored.
    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(step).collect())
    }

    /// Returns the last step.
    pub fn last(&self) -> Option<&BackStep> {
        self.0.last()
    }

    /// Returns the number of the last step, or 0 if there is none.
    pub fn last_number(&self) -> u32 {
        self.last().map_or(0, |step| step.number)
    }

    /// Returns when a job was enqueued, on the current clock. `id` is the entry with which the job entered its lane,
    /// and `enqueued_at_ms` is its time as corrected for the steps up to number `known`.
    ///
    /// Only entries that were in the lane before a step are older than their ids say. A job from before the last gap
    /// between looks is not corrected, unless its time is later than the clock after the step: the step may have
    /// corrected a wrong clock.
    pub fn enqueued_at_ms(&self, lane: Lane, id: EntryId, enqueued_at_ms: u64, known: u32) -> u64 {
        let mut at_ms = enqueued_at_ms;
        for step in self.0.iter().filter(|step| step.number > known) {
            let vouched = id > step.fence[lane as usize] || at_ms > step.to_ms;
            if id <= step.seen[lane as usize] && vouched {
                at_ms = at_ms.saturating_sub(step.by_ms);
            }
        }
        at_ms
    }
}

fn step(line: &str) -> Option<BackStep> {
    let words: Vec<&str> = line.split(' ').collect();
    let [number, to_ms, by_ms, seen, seen_bulk, fence, fence_bulk] = words[..] else { return None };
    Some(BackStep {
        number: number.parse().ok()?,
        to_ms: to_ms.parse().ok()?,
        by_ms: by_ms.parse().ok()?,
        seen: [seen.parse().ok()?, seen_bulk.parse().ok()?],
        fence: [fence.parse().ok()?, fence_bulk.parse().ok()?],
    })
}

/// The result of a look at the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockLook {
    /// Redis's clock, in milliseconds.
    pub now_ms: u64,
    /// Whether this look recorded the last step.
    pub noted: bool,
    /// The steps so far.
    pub steps: BackSteps,
}

/// Looks at the clock of a partition's Redis. `least_ms` is the minimum that it should show, if this worker knows one.
/// If no worker looked for longer than `gap`, the earlier times of entries are not trusted.
pub async fn look(link: &mut Link, keys: &Keys, least_ms: Option<u64>, gap: Duration) -> RedisResult<ClockLook> {
    let gap_ms = millis(gap);
    let mut call = LOOK.call(3);
    call.arg(&keys.meta).arg(keys.jobs(Lane::Interactive)).arg(keys.jobs(Lane::Bulk));
    call.arg(least_ms.unwrap_or(0)).arg(gap_ms);
    let (now_ms, noted, steps): (u64, u8, String) = redis::from_redis_value(LOOK.run(link, &call).await?)?;
    Ok(ClockLook { now_ms, noted: noted == 1, steps: BackSteps::parse(&steps) })
}

/// A delayed job whose wait began in the future, according to the current clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockAhead {
    /// The job's origin, as text.
    pub origin: String,
    /// The job's state, as JSON.
    pub state: String,
}

/// One step of a search for delayed jobs whose wait for a retry, a limit or a worker slot began in the future. Returns
/// the cursor for the next step (`None` at the end) and the jobs found.
pub async fn ahead(link: &mut Link, keys: &Keys, cursor: &str) -> RedisResult<(Option<String>, Vec<ClockAhead>)> {
    let mut call = AHEAD.call(1);
    call.arg(&keys.delayed_jobs).arg(cursor).arg(MAX_PUT_BACK);
    let texts: Vec<Vec<u8>> = redis::from_redis_value(AHEAD.run(link, &call).await?)?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let Some((next, pairs)) = texts.split_first() else { return Ok((None, Vec::new())) };
    let found =
        pairs.chunks_exact(2).filter_map(|pair| Some(ClockAhead { origin: text(&pair[0])?, state: text(&pair[1])? }));
    Ok((text(next).filter(|next| next != "0"), found.collect()))
}

/// How to move a delayed job to an earlier time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// The job, with the state in which it was found.
    pub job: ClockAhead,
    /// The new state, as JSON.
    pub state: String,
    /// How much earlier the job becomes due, in milliseconds.
    pub by_ms: u64,
}

/// Moves delayed jobs, [`MAX_PUT_BACK`] in each call. Returns how many were moved: those that still had the state in
/// which they were found. Idempotent.
pub async fn put_back(link: &mut Link, keys: &Keys, jobs: &[PutBack]) -> RedisResult<u64> {
    let mut moved = 0;
    for jobs in jobs.chunks(MAX_PUT_BACK) {
        let mut call = PUT_BACK.call(2);
        call.arg(&keys.delayed).arg(&keys.delayed_jobs);
        for job in jobs {
            call.arg(&job.job.origin).arg(&job.job.state).arg(&job.state).arg(job.by_ms);
        }
        let Value::Int(count) = PUT_BACK.run(link, &call).await? else { continue };
        moved += u64::try_from(count).unwrap_or(0);
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINUTE_MS: u64 = 60_000;
    const T: u64 = 1_732_265_000_000;

    fn id(ms: u64, seq: u64) -> EntryId {
        EntryId { ms, seq }
    }

    /// Steps with one that goes back ten minutes at `T`. Entries added up to an hour before were covered by looks.
    fn steps() -> BackSteps {
        let to_ms = T - 10 * MINUTE_MS;
        let fence_ms = T - 60 * MINUTE_MS;
        BackSteps::parse(&format!("3 {to_ms} {} {T}-5 0-0 {fence_ms}-0 0-0", 10 * MINUTE_MS))
    }

    #[test]
    fn a_job_from_before_a_step_is_older_than_its_id_says() {
        let at = |id: EntryId| steps().enqueued_at_ms(Lane::Interactive, id, id.ms, 0);
        assert_eq!(at(id(T, 5)), T - 10 * MINUTE_MS, "the last one before");
        assert_eq!(at(id(T - 30 * MINUTE_MS, 0)), T - 40 * MINUTE_MS, "long before");
        assert_eq!(at(id(T, 6)), T, "the first one after, which Redis gives the time of the last");
        assert_eq!(at(id(T + 1, 0)), T + 1);
        assert_eq!(at(id(T - 61 * MINUTE_MS, 0)), T - 61 * MINUTE_MS, "the clock may have been wrong then");
        assert_eq!(steps().enqueued_at_ms(Lane::Bulk, id(T, 5), T, 0), T, "the other lane was empty");
        assert_eq!(steps().enqueued_at_ms(Lane::Interactive, id(T, 5), T, 3), T, "known already");
        assert_eq!(steps().last_number(), 3);
    }

    #[test]
    fn a_jump_that_is_taken_back_makes_nobody_older_but_who_came_in_it() {
        let day_ms = 86_400_000;
        let taken_back = format!("1 {T} {day_ms} {}-0 0-0 {}-7 0-0", T + day_ms + 300, T + day_ms + 100);
        let at = |id: EntryId| BackSteps::parse(&taken_back).enqueued_at_ms(Lane::Interactive, id, id.ms, 0);
        assert_eq!(at(id(T - 5_000, 0)), T - 5_000, "before the jump");
        assert_eq!(at(id(T + day_ms + 50, 0)), T + 50, "in it");
        assert_eq!(at(id(T + day_ms + 200, 0)), T + 200);
    }

    #[test]
    fn what_is_no_step_is_left_out() {
        for text in ["", "x", "1 2 3", "1 2 3 4-0 5-0 6-0 x", "1 2 3 4-0 5-0 6-0 7-0 8"] {
            assert_eq!(BackSteps::parse(text), BackSteps::default(), "{text}");
        }
        assert_eq!(BackSteps::parse("rubbish\n1 2 3 4-0 5-0 6-0 7-0").last_number(), 1);
    }
}
