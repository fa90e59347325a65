//! Collects a sample: how the queue is now.

use super::{
    latency::{self, wrapped},
    record::Sample,
};
use crate::{
    contract::{DelayReason, Lane, Status},
    limits::BreakerScope,
    queue::{
        Keys, Link, breakers, learned,
        maintenance::{self, Backlog},
        rules::{self, scan_delayed},
        workers,
    },
};
use redis::{RedisResult, cmd};
use std::collections::HashMap;

/// Delayed jobs that a sample reads for their reasons. Above that the counts by reason are projected.
const MAX_DELAYED: usize = 1_000;

/// The reasons that a record counts, in its order. Jobs that wait for a worker slot are the rest.
pub const REASONS: [DelayReason; 5] =
    [DelayReason::Limit, DelayReason::Retry, DelayReason::RunAt, DelayReason::Paused, DelayReason::Breaker];

/// Reads how the queue of these partitions is, of which the first must be partition 0. `reason` says why a job with a stored state
/// is delayed. About ten round trips, and ten for each partition.
pub async fn collect(
    link: &mut Link,
    partitions: &[Keys],
    reason: impl Fn(&[u8]) -> DelayReason,
) -> RedisResult<(u64, Sample)> {
    let mut sample = Sample::default();
    let now_ms = rules::now_ms(link).await?;
    let Some(first) = partitions.first() else { return Ok((now_ms, sample)) };
    let rules = rules::load(link, first).await?;
    sample.rules = short(rules.all().filter(|(_, _, order)| order.holds(now_ms)).count());
    let (mut delayed, mut read, mut by) = (0_u64, 0_u64, [0_u64; 5]);
    let (mut dead, mut closed, mut completions) = (0_u64, 0_usize, [0_u64; 5]);
    for keys in partitions {
        for lane in Lane::ALL {
            let backlog = backlog(link, keys, lane).await?;
            let figures = &mut sample.lanes[lane as usize];
            figures.waiting = figures.waiting.saturating_add(number(backlog.entries.saturating_sub(backlog.in_flight)));
            figures.in_flight = figures.in_flight.saturating_add(number(backlog.in_flight));
            let oldest_ms = u64::try_from(backlog.oldest.as_millis()).unwrap_or(u64::MAX);
            figures.oldest_ms = figures.oldest_ms.max(number(oldest_ms));
        }
        delayed += link.query::<u64>(cmd("ZCARD").arg(&keys.delayed)).await?;
        read += count_delayed(link, keys, &reason, &mut by).await?;
        dead += link.query::<u64>(cmd("XLEN").arg(&keys.dead)).await?;
        let limits = learned::learned(link, keys, learned::MAX_LEARNED).await?;
        closed += limits.iter().filter(|limit| limit.closed_until_ms > now_ms).count();
        let ended: HashMap<String, u64> = link.query(cmd("HGETALL").arg(&keys.stats)).await?;
        for (name, count) in ended {
            let status = name.rsplit_once(':').and_then(|(_, status)| Status::from_name(status));
            let place = status.and_then(|status| completions.get_mut(status as usize));
            if let Some(place) = place {
                *place = place.wrapping_add(count);
            }
        }
    }
    for (lane, figures) in Lane::ALL.into_iter().zip(&mut sample.lanes) {
        figures.paused = rules.lane_paused(lane, now_ms).is_some();
    }
    sample.delayed = number(delayed);
    sample.delayed_exact = read >= delayed;
    let project = |count: u64| if read > 0 && read < delayed { count.saturating_mul(delayed) / read } else { count };
    sample.delayed_by = by.map(|count| number(project(count)));
    sample.dead_letters = number(dead);
    sample.closed_limits = short(closed);
    sample.completions = completions.map(wrapped);
    for (scope, open_ms) in breakers::open(link, first).await? {
        if scope == BreakerScope::All {
            (sample.breaker_open, sample.breaker_open_ms) = (true, number(open_ms));
        }
    }
    for heartbeat in workers::workers(link, first).await?.into_values().filter(|beat| beat.is_recent(now_ms)) {
        sample.workers = sample.workers.saturating_add(1);
        let add = |to: &mut u32, count: u64| *to = to.saturating_add(number(count));
        add(&mut sample.calls_last_minute, heartbeat.calls_last_minute);
        add(&mut sample.failures_last_minute, heartbeat.failures_last_minute);
        add(&mut sample.slots_allowed, heartbeat.allowed);
        add(&mut sample.slots_used, heartbeat.running.interactive.saturating_add(heartbeat.running.bulk));
    }
    (sample.people, sample.xco, sample.rate_limited) = latency::read(link, first).await?;
    Ok((now_ms, sample))
}

async fn backlog(link: &mut Link, keys: &Keys, lane: Lane) -> RedisResult<Backlog> {
    match maintenance::backlog(link, keys, lane).await {
        // No worker ever started: the jobs are there, the group is not.
        Err(error) if error.code() == Some("NOGROUP") => {
            let entries = maintenance::entries(link, keys, lane).await?;
            Ok(Backlog { entries, ..Backlog::default() })
        }
        backlog => backlog,
    }
}

/// Counts the delayed jobs of a partition by reason. Returns how many it read.
async fn count_delayed(
    link: &mut Link,
    keys: &Keys,
    reason: impl Fn(&[u8]) -> DelayReason,
    by: &mut [u64; 5],
) -> RedisResult<u64> {
    let (mut cursor, mut read) = (0, 0);
    while read < MAX_DELAYED {
        let (next, jobs) = scan_delayed(link, keys, cursor, MAX_DELAYED).await?;
        read += jobs.len();
        for job in jobs {
            let reason = reason(&job.state);
            if let Some(place) = REASONS.iter().position(|known| *known == reason) {
                by[place] += 1;
            }
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    Ok(u64::try_from(read).unwrap_or(u64::MAX))
}

fn number(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn short(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

// The lanes of a sample and of the queue are in one order.
const _: () = assert!(Lane::Interactive as usize == 0 && Lane::Bulk as usize == 1);
// So are the statuses.
const _: () = assert!(Status::Succeeded as usize == 0 && Status::Rejected as usize == 4);
